/**
 * Passages as vectors: the mean of a model's hidden states over each. They find what a question asks for in other words, beside the search by
 * words. Both orders are joined by their ranks (reciprocal rank fusion; Cormack, Clarke and Buettcher, 2009: k 60).
 */
import type { Archive } from './archive.js';
import type { Hit } from './entries.js';
import type { ArchiveModel } from './model.js';
import { hitsOf } from './search.js';

const K = 60;
/** Vectors that are held at once. */
const BATCH = 2000;

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
  const [any] = await archive.database.query('SELECT 1 FROM archive_vectors WHERE model = $1 LIMIT 1', [
    model.key,
  ]);
  if (!any) return found;
  const near = await nearest(archive, model.key, await model.embed(question), options);
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

/** The passages whose vectors are most like one, the likeliest first: each is compared, some thousands at a time. */
async function nearest(
  archive: Archive,
  key: string,
  asked: Float32Array,
  { limit, documents }: MeaningOptions,
): Promise<string[]> {
  let best: { passage: string; likeness: number }[] = [];
  for (let after = '0'; ; ) {
    const rows = await archive.database.query<{ passage: string; vector: Uint8Array }>(
      `SELECT v.passage::text, v.vector FROM archive_vectors v
       WHERE v.model = $1 AND v.passage > $2::bigint AND ($3::text[] IS NULL
         OR EXISTS (SELECT 1 FROM archive_passages p WHERE p.id = v.passage AND p.content = ANY($3::text[])))
       ORDER BY v.passage LIMIT ${BATCH}`,
      [key, after, documents ?? null],
    );
    const likely = rows.map(({ passage, vector }) => ({ passage, likeness: product(asked, floats(vector)) }));
    best = [...best, ...likely].sort((a, b) => b.likeness - a.likeness).slice(0, limit);
    if (rows.length < BATCH) return best.map(({ passage }) => passage);
    after = rows.at(-1)!.passage;
  }
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
