/** The layers of a model in words, and its pattern of letters where the pointer rests on them. */
import { countLayers } from '../../../src/models/pattern.js';

/** `letters`: where the letters of the pattern are shown beside it, so that it is their legend. */
export function Layers({ pattern, letters = false }: { pattern: string; letters?: boolean }) {
  return (
    <span title={`layers ${pattern}`}>
      {countLayers(pattern).map((kind, i) => (
        <span key={kind.letters}>
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
