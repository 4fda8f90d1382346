/** The layers in order, a bead for each; those with mixers can be selected. */
import type { Layer } from './inside.js';

const KINDS: Readonly<Record<string, string>> = {
  M: 'ssm',
  G: 'ssm',
  R: 'ssm',
  C: 'ssm',
  '*': 'attention',
  W: 'attention',
  S: 'selective',
};

interface LayerStripProps {
  readonly layers: readonly Layer[];
  readonly shown: { readonly layer: number; readonly mixer: number };
  readonly onShow: (layer: number, mixer: number) => void;
}

export function LayerStrip({ layers, shown, onShow }: LayerStripProps) {
  return (
    <fieldset class="strip" aria-label="Layers">
      {layers.map(({ index, letters, mixers }) =>
        mixers.length === 0 ? (
          <span
            key={index}
            class="layer quiet"
            title={`layer ${index}: nothing in it mixes along the sequence`}
          >
            {letters}
          </span>
        ) : (
          mixers.map(({ letter, name }, i) => (
            <button
              key={`${index} ${letter}`}
              type="button"
              class={`layer ${KINDS[letter] ?? 'ssm'}`}
              aria-pressed={index === shown.layer && i === shown.mixer}
              title={`layer ${index}: ${name}`}
              onClick={() => onShow(index, i)}
            >
              {letter}
              <small>{index}</small>
              <span class="hidden">: {name}</span>
            </button>
          ))
        ),
      )}
    </fieldset>
  );
}
