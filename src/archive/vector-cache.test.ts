/** Vectors in memory are those that the database has. The database is played; test/archive.test.ts asks real ones. */
import { expect, test } from 'vitest';
import type { Archive } from './archive.js';
import { VectorCache } from './vector-cache.js';

/** A table of vectors, which counts those that are fetched. */
class Played {
  readonly rows = new Map<number, number[]>();
  fetched = 0;
  fails = false;

  readonly archive = {
    database: { query: async (sql: string, values: unknown[]) => this.answer(sql, values) },
  } as unknown as Archive;

  private answer(sql: string, values: unknown[]): unknown[] {
    const ids = [...this.rows.keys()].sort((a, b) => a - b);
    if (sql.includes('count(*)')) {
      const bytes = ids.length === 0 ? null : 4 * this.rows.get(ids[0]!)!.length;
      return [{ count: ids.length, numbers: ids.join(), bytes }];
    }
    if (!sql.includes('encode(')) return ids.map((id) => ({ passage: String(id) }));
    if (this.fails) throw new Error('the database is gone');
    const wanted = sql.includes('ANY')
      ? ids.filter((id) => (values[1] as string[]).includes(String(id)))
      : ids.filter((id) => id > Number(values[1]));
    const some = wanted.slice(0, Number(/LIMIT (\d+)/.exec(sql)![1]));
    this.fetched += some.length;
    return some.map((id) => {
      const bytes = new Uint8Array(Float32Array.from(this.rows.get(id)!).buffer);
      return { passage: String(id), vector: Buffer.from(bytes).toString('hex') };
    });
  }
}

async function all(cache: VectorCache): Promise<Record<string, number[]> | undefined> {
  const found = await cache.vectors();
  if (!found) return undefined;
  const vectors: Record<string, number[]> = {};
  for await (const some of found) for (const [id, vector] of some) vectors[id] = [...vector];
  return vectors;
}

test('vectors are fetched once; those that come and go are noticed, also behind a failure', async () => {
  const played = new Played();
  const cache = new VectorCache(played.archive, 'model');
  expect(await all(cache)).toBeUndefined();
  played.rows.set(3, [1, 2]).set(7, [3, 4]);
  expect(await all(cache)).toEqual({ 3: [1, 2], 7: [3, 4] });
  // Two at once, too.
  expect(await Promise.all([all(cache), all(cache)])).toEqual(Array(2).fill({ 3: [1, 2], 7: [3, 4] }));
  expect(played.fetched).toBe(2);
  // As many as before, others.
  played.rows.delete(3);
  played.rows.set(5, [5, 6]);
  played.fails = true;
  await expect(all(cache)).rejects.toThrow('gone');
  played.fails = false;
  expect(await all(cache)).toEqual({ 5: [5, 6], 7: [3, 4] });
  expect(played.fetched).toBe(3);
  played.rows.clear();
  expect(await all(cache)).toBeUndefined();
});

test('more than may be kept are read in batches for each question', async () => {
  const played = new Played();
  for (let id = 1; id <= 4001; id++) played.rows.set(id, [id, 0]);
  const cache = new VectorCache(played.archive, 'model', 8 * 4000);
  for (let question = 1; question <= 2; question++) {
    const vectors = (await all(cache))!;
    expect(Object.keys(vectors).length).toBe(4001);
    expect(vectors[4001]).toEqual([4001, 0]);
    expect(played.fetched).toBe(question * 4001);
  }
  played.rows.delete(1);
  expect(Object.keys((await all(cache))!).length).toBe(4000);
  await all(cache);
  expect(played.fetched).toBe(3 * 4001 - 1);
});
