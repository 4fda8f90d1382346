/** The text, token by token, on the colours of some number that each has. */
import type { TracedToken } from '../../../src/inspect/trace.js';
import type { Mark } from './colourings.js';
import { figure } from './heatmap.js';
import { css, inkOn, scaleFor } from './scale.js';
import { wordOf } from './words.js';

/** Of the colours, below the text. */
const STRENGTH = 0.5;

interface TokenRibbonProps {
  readonly tokens: readonly TracedToken[];
  /** One for each token; undefined for one that has none. */
  readonly values: readonly (number | undefined)[];
  /** What the numbers are, with their unit. */
  readonly meaning: string;
  /** How a token stands out besides its colour. */
  readonly shades?: readonly number[];
  readonly marks?: readonly Mark[];
  readonly position: number;
  readonly onPosition: (position: number) => void;
}

export function TokenRibbon({
  tokens,
  values,
  shades,
  meaning,
  marks,
  position,
  onPosition,
}: TokenRibbonProps) {
  const coloured = shades ?? values.map((value) => value ?? 0);
  const scale = scaleFor(coloured, STRENGTH);
  return (
    <div
      class="ribbon"
      role="listbox"
      aria-label={`The text by ${meaning}`}
      aria-activedescendant={`token-${position}`}
      tabIndex={0}
      onKeyDown={(event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1, Home: -tokens.length, End: tokens.length }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        onPosition(Math.max(0, Math.min(tokens.length - 1, position + step)));
      }}
    >
      {tokens.map((token, i) => {
        const value = values[i];
        const rgb = scale.rgb(coloured[i]!);
        const mark = marks?.[i];
        const said = `${wordOf(token)}, ${i}: ${value === undefined ? 'none' : `${figure(value)} ${meaning}`}${mark ? `, ${mark}` : ''}`;
        return (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the list takes the keys.
          // biome-ignore lint/a11y/useFocusableInteractive: the list has the focus, and names its active token.
          <span
            key={i}
            id={`token-${i}`}
            class={`token ${mark ?? ''}`}
            role="option"
            aria-selected={i === position}
            aria-label={said}
            title={said}
            style={coloured[i] === 0 ? {} : { background: css(rgb), color: inkOn(rgb) }}
            onClick={() => onPosition(i)}
          >
            {token.text}
          </span>
        );
      })}
    </div>
  );
}
