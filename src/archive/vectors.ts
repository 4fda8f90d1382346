/** Passages as vectors: the mean of a model's hidden states over each. They order what search by words has found. */
import type { Archive } from './archive.js';
import type { Hit } from './entries.js';
import type { ArchiveModel } from './model.js';

/** What likeness counts beside words, where both are put on a scale from 0 to 1. */
const WEIGHT = 0.15;

/** Hits in another order, where the archive has vectors of this model for them; else as they are. */
export async function byMeaning(
  archive: Archive,
  model: Pick<ArchiveModel, 'key' | 'embed'>,
  question: string,
  hits: readonly Hit[],
): Promise<readonly Hit[]> {
  if (hits.length < 2) return hits;
  const rows = await archive.database.query<{ passage: string; vector: Uint8Array }>(
    'SELECT passage::text, vector FROM archive_vectors WHERE model = $1 AND passage = ANY($2::bigint[])',
    [model.key, hits.map(({ passage }) => passage)],
  );
  if (rows.length < hits.length) return hits;
  const asked = await model.embed(question);
  const likeness = new Map(rows.map(({ passage, vector }) => [passage, product(asked, floats(vector))]));
  const best = hits[0]!.score;
  const values = [...likeness.values()];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const score = (hit: Hit): number =>
    hit.score / Math.max(best, 1e-9) +
    (WEIGHT * (likeness.get(hit.passage)! - low)) / Math.max(high - low, 1e-9);
  return [...hits].sort((a, b) => score(b) - score(a));
}

/** As the database has them: float32, little-endian. */
export function bytesOf(vector: Float32Array): Uint8Array {
  return new Uint8Array(vector.buffer.slice(vector.byteOffset, vector.byteOffset + vector.byteLength));
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer);
}

function product(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * (b[i] ?? 0);
  return sum;
}
