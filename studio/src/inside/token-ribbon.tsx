/** The text token by token, coloured by a quantity. */
import type { TracedToken } from '../../../src/inspect/trace.js';
import type { Mark } from './colourings.js';
import { figure } from './heatmap.js';
import { css, inkOn, scaleFor } from './scale.js';
import { wordOf } from './words.js';

/** Strength of the colours below the text. */
const STRENGTH = 0.5;

interface TokenRibbonProps {
  readonly tokens: readonly TracedToken[];
  /** One value per token; undefined for tokens without one. */
  readonly values: readonly (number | undefined)[];
  /** The quantity with its unit. */
  readonly meaning: string;
  /** See `Colouring.shades`. */
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
