/**
 * Passages as vectors: the mean of a model's hidden states over each. They find what a question asks for in other words, beside the search by
 * words. Both orders are joined by their ranks (reciprocal rank fusion; Cormack, Clarke and Buettcher, 2009: k 60).
 */
import type { Archive } from './archive.js';
import type { Hit } from './entries.js';
import type { ArchiveModel } from './model.js';
import { hitsOf } from './search.js';
import { VectorCache, type Vectors } from './vector-cache.js';

const K = 60;

/** How much is searched for by vectors, and where. */
export interface MeaningOptions {
  /** How many passages the vectors find, at most. */
  readonly limit: number;
  /** Only in these documents, by their contents. */
  readonly documents?: readonly string[] | undefined;
}

/** What words have found joined with what the vectors of this model find, the best first; as it is where the archive has none of its. */
export async function withMeaning(
  archive: Archive,
  model: Pick<ArchiveModel, 'key' | 'embed'>,
  question: string,
  found: readonly Hit[],
  options: MeaningOptions,
): Promise<readonly Hit[]> {
  const held = await VectorCache.of(archive, model.key).vectors();
  if (!held) return found;
  const near = await nearest(archive, held, await model.embed(question), options);
  const scores = new Map<string, number>();
  for (const order of [found.map(({ passage }) => passage), near]) {
    for (const [rank, passage] of order.entries())
      scores.set(passage, (scores.get(passage) ?? 0) + 1 / (K + rank + 1));
  }
  const byWords = new Map(found.map((hit) => [hit.passage, hit]));
  const others = await hitsOf(
    archive,
    near.filter((passage) => !byWords.has(passage)),
  );
  return [...scores]
    .sort(([, a], [, b]) => b - a)
    .flatMap(([passage, score]) => {
      const hit = byWords.get(passage) ?? others.get(passage);
      return hit ? [{ words: [], ...hit, score }] : [];
    });
}

/** The passages whose vectors are most like one, the likeliest first: each is compared. */
async function nearest(
  archive: Archive,
  vectors: Vectors,
  asked: Float32Array,
  { limit, documents }: MeaningOptions,
): Promise<string[]> {
  const rows =
    documents &&
    (await archive.database.query<{ passage: string }>(
      'SELECT id::text AS passage FROM archive_passages WHERE content = ANY($1::text[])',
      [documents],
    ));
  const among = rows && new Set(rows.map(({ passage }) => passage));
  let best: { passage: string; likeness: number }[] = [];
  for await (const some of vectors) {
    const likely: typeof best = [];
    for (const [passage, vector] of some) {
      if (!among || among.has(passage)) likely.push({ passage, likeness: product(asked, vector) });
    }
    best = [...best, ...likely].sort((a, b) => b.likeness - a.likeness).slice(0, limit);
  }
  return best.map(({ passage }) => passage);
}

/** As the database has them: float32, little-endian. */
export function bytesOf(vector: Float32Array): Uint8Array {
  return new Uint8Array(vector.buffer.slice(vector.byteOffset, vector.byteOffset + vector.byteLength));
}

function product(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * (b[i] ?? 0);
  return sum;
}
