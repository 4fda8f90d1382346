/** The layers of a model in words, with the pattern as a tooltip. */
import { countLayers } from '../../../src/models/pattern.js';

/** With `letters`, the words include the letters of the pattern, as their legend. */
export function Layers({ pattern, letters = false }: { pattern: string; letters?: boolean }) {
  return (
    <span title={`layers ${pattern}`}>
      {countLayers(pattern).map((kind, i) => (
        <span key={kind.letters} class="kind">
          {i > 0 && ', '}
          {letters && (
            <>
              <b>{kind.letters}</b>{' '}
            </>
          )}
          {kind.count} {kind.name}
        </span>
      ))}
    </span>
  );
}
