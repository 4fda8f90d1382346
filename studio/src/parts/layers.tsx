/** The layers of a model in words, with the pattern as a tooltip. */
import { Fragment } from 'preact';
import { countLayers } from '../../../src/models/pattern.js';

/** With `letters`, the words include the letters of the pattern, as their legend. */
export function Layers({ pattern, letters = false }: { pattern: string; letters?: boolean }) {
  const kinds = countLayers(pattern);
  return (
    <span title={`layers ${pattern}`}>
      {kinds.map((kind, i) => (
        <Fragment key={kind.letters}>
          {i > 0 && ' '}
          <span class="kind">
            {letters && (
              <>
                <b>{kind.letters}</b>{' '}
              </>
            )}
            {kind.count} {kind.name}
            {i < kinds.length - 1 && ','}
          </span>
        </Fragment>
      ))}
    </span>
  );
}
