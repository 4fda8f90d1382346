/**
 * The vectors of an archive's passages, kept in memory between questions. A vector never changes, and no two passages ever have one number:
 * so what is kept is right as long as the database has the same numbers, which it is asked for each time.
 */
import type { Archive } from './archive.js';

/** Vectors by the numbers of their passages, in parts. */
export type Vectors =
  | Iterable<ReadonlyMap<string, Float32Array>>
  | AsyncIterable<ReadonlyMap<string, Float32Array>>;

/** What vectors may take in memory, in bytes. Of more than these, some thousands at a time are read from the database for each question. */
const MOST_BYTES = 512e6;
/** Vectors that are fetched at once. */
const BATCH = 2000;

const caches = new WeakMap<Archive, VectorCache>();

/** The vectors that one model has made of an archive's passages. */
export class VectorCache {
  private readonly held = new Map<string, Float32Array>();
  /** What the database said of the numbers when it was asked last. */
  private numbers = '';
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly archive: Archive,
    private readonly model: string,
    private readonly limit = MOST_BYTES,
  ) {}

  /** That of an archive and a model. One model's are kept: those of the one that was asked for last. */
  static of(archive: Archive, model: string): VectorCache {
    let cache = caches.get(archive);
    if (cache?.model !== model) {
      cache = new VectorCache(archive, model);
      caches.set(archive, cache);
    }
    return cache;
  }

  /** As the database has them now; undefined where there are none. */
  vectors(): Promise<Vectors | undefined> {
    // One question after the other brings the memory up to date.
    const next = this.last.catch(() => {}).then(() => this.current());
    this.last = next;
    return next;
  }

  private async current(): Promise<Vectors | undefined> {
    const { database } = this.archive;
    const [row] = await database.query<{ count: number; numbers: string; bytes: number | null }>(
      `SELECT count(*)::int AS count, concat_ws(' ', count(*), sum(passage), sum(hashint8(passage)::bigint)) AS numbers,
         (SELECT length(vector) FROM archive_vectors WHERE model = $1 LIMIT 1) AS bytes
       FROM archive_vectors WHERE model = $1`,
      [this.model],
    );
    const { count, numbers, bytes } = row!;
    if (count === 0) {
      this.held.clear();
      return undefined;
    }
    if (count * bytes! > this.limit) {
      this.held.clear();
      this.numbers = '';
      return this.stored();
    }
    if (numbers !== this.numbers) {
      await this.refresh();
      this.numbers = numbers;
    }
    return [this.held];
  }

  /** Lets go of the vectors that the database has no more, and fetches those that it has got. */
  private async refresh(): Promise<void> {
    if (this.held.size === 0) {
      for await (const some of this.stored())
        for (const [passage, vector] of some) this.held.set(passage, vector);
      return;
    }
    const rows = await this.archive.database.query<{ passage: string }>(
      'SELECT passage::text FROM archive_vectors WHERE model = $1 ORDER BY passage',
      [this.model],
    );
    const there = new Set(rows.map(({ passage }) => passage));
    for (const passage of this.held.keys()) if (!there.has(passage)) this.held.delete(passage);
    const missing = [...there].filter((passage) => !this.held.has(passage));
    for (let first = 0; first < missing.length; first += BATCH) {
      const some = await this.fetch('passage = ANY($2::bigint[])', missing.slice(first, first + BATCH));
      for (const [passage, vector] of some) this.held.set(passage, vector);
    }
  }

  /** All of them, in batches. */
  private async *stored(): AsyncGenerator<ReadonlyMap<string, Float32Array>> {
    for (let after = '0'; ; ) {
      const some = await this.fetch('passage > $2::bigint', after);
      yield some;
      if (some.size < BATCH) return;
      after = [...some.keys()].at(-1)!;
    }
  }

  private async fetch(where: string, value: unknown): Promise<Map<string, Float32Array>> {
    // As hexadecimal digits: PGlite's own reading of bytes takes several times as long.
    const rows = await this.archive.database.query<{ passage: string; vector: string }>(
      `SELECT v.passage::text, encode(v.vector, 'hex') AS vector FROM archive_vectors v
       WHERE v.model = $1 AND v.${where} ORDER BY v.passage LIMIT ${BATCH}`,
      [this.model, value],
    );
    return new Map(rows.map(({ passage, vector }) => [passage, floats(vector)]));
  }
}

function floats(digits: string): Float32Array {
  const vector = new Float32Array(digits.length / 8);
  Buffer.from(vector.buffer).write(digits, 'hex');
  return vector;
}
