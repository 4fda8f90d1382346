/** Beginnings that were read before: the longest is found, what it gives is what reading gives, and budgets hold. */
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { damageBytes } from '../checkpoint/testing/file-damage.js';
import { ConfigError, SnapshotError, StorageError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { Random } from '../nn/index.js';
import type { GenerateOptions } from './generation.js';
import type { LanguageModel } from './language-model.js';
import { PrefixCache } from './prefix-cache.js';
import type { Session } from './session.js';
import { tinyModel } from './testing/tiny.js';

/** Sees each file that is about to be read. */
const beforeLoading = vi.fn<(path: string) => void>();

vi.mock('./snapshot.js', async (original) => {
  const real = await original<typeof import('./snapshot.js')>();
  return {
    ...real,
    loadSnapshot: (...args: Parameters<typeof real.loadSnapshot>) => {
      beforeLoading(args[0]);
      return real.loadSnapshot(...args);
    },
  };
});
afterEach(() => void beforeLoading.mockReset());

let language: LanguageModel;
let attentive: LanguageModel;
beforeAll(async () => {
  language = (await tinyModel({ pattern: 'M*' })).language;
  attentive = (await tinyModel({ pattern: '*-' })).language;
});

const ids = (length: number, seed = 1): number[] => {
  const random = new Random(seed);
  return Array.from({ length }, () => 1 + random.below(299));
};
const TEXT = ids(1400);
const greedy: GenerateOptions = { temperature: 0, maxTokens: 10 };

async function written(session: Session, options = greedy): Promise<number[]> {
  const written: number[] = [];
  for await (const { id } of session.generate(options)) if (id !== undefined) written.push(id);
  return written;
}

/** The logits after tokens that a session without a cache reads at once. */
async function cold(tokens: readonly number[], model = language): Promise<Float32Array> {
  const session = model.session();
  await session.read(tokens);
  return (await session.snapshot()).logits!;
}

/** Reads in a new session; returns what was reused, and the logits. */
async function warm(cache: PrefixCache, tokens: readonly number[]): Promise<[number, Float32Array]> {
  const session = cache.model.session({ cache });
  const { reusedTokens, readTokens } = await session.read(tokens);
  expect(reusedTokens + readTokens).toBe(tokens.length);
  expect(session.tokens).toEqual(tokens);
  const { logits } = await session.snapshot();
  session.dispose();
  return [reusedTokens, logits!];
}

const roomy = (model = language, options = {}): PrefixCache =>
  new PrefixCache(model, { bytes: 1e9, ...options });

describe('a session with a cache', () => {
  test('keeps its state every 512 tokens of a prompt, at its end, and at the end of an answer', async () => {
    const cache = roomy();
    const session = language.session({ cache });
    expect(await session.read(TEXT)).toEqual({ reusedTokens: 0, readTokens: 1400 });
    const answer = await written(session);
    expect(cache.size).toBe(4);
    const all = [...TEXT, ...answer];
    for (const length of [511, 512, 1023, 1024, 1399, 1400, 1409, 1410]) {
      const expected = Math.max(0, ...[512, 1024, 1400, 1410].filter((kept) => kept <= length));
      expect((await cache.find(all.slice(0, length)))?.length ?? 0).toBe(expected);
    }
  });

  test('takes up the longest beginning, and gives the bits that reading gives', async () => {
    const cache = roomy();
    await warm(cache, TEXT);
    const other = [...TEXT.slice(0, 1100), ...ids(100, 2)];
    const [reused, logits] = await warm(cache, other);
    expect(reused).toBe(1024);
    expect(logits).toEqual(await cold(other));
    // All of it known: nothing is computed.
    const read = vi.spyOn(language, 'read');
    const [again, same] = await warm(cache, TEXT);
    expect(again).toBe(1400);
    expect(read).not.toHaveBeenCalled();
    read.mockRestore();
    expect(same).toEqual(await cold(TEXT));
  });

  test('goes on from an answer as the session goes on that gave it', async () => {
    const cache = roomy();
    const first = language.session({ cache });
    await first.read(TEXT.slice(0, 50));
    await written(first, { ...greedy, maxTokens: 5 });
    const [reused, logits] = await warm(cache, [...first.tokens, 4, 5, 6]);
    expect(reused).toBe(55);
    await first.read([4, 5, 6]);
    expect((await first.snapshot()).logits).toEqual(logits);
  });

  test('that has read something goes its own way', async () => {
    const cache = roomy();
    await warm(cache, TEXT.slice(0, 100));
    const session = language.session({ cache });
    await session.read(TEXT.slice(0, 1));
    expect(await session.read(TEXT.slice(1, 100))).toEqual({ reusedTokens: 0, readTokens: 99 });
  });

  test('keeps also what was broken off, and nothing of what failed', async () => {
    const cache = roomy();
    const session = language.session({ cache });
    await session.read(TEXT.slice(0, 20));
    for await (const _ of session.generate(greedy)) if (session.tokens.length === 22) break;
    expect((await cache.find(session.tokens))?.tokens).toEqual(session.tokens);
    const { size } = cache;
    vi.spyOn(language, 'read').mockRejectedValueOnce(new Error('no'));
    await expect(written(session)).rejects.toThrow('no');
    vi.restoreAllMocks();
    expect(cache.size).toBe(size);
  });

  test('belongs to the model of the cache', async () => {
    const cache = roomy();
    expect(() => attentive.session({ cache })).toThrow(ConfigError);
    const session = attentive.session();
    await session.read([1]);
    await expect(cache.put(await session.snapshot())).rejects.toThrow(SnapshotError);
    expect(cache.size).toBe(0);
  });

  test('finds beginnings exactly, whatever else is there', async () => {
    const cache = roomy();
    const random = new Random(9);
    const texts: number[][] = [];
    // Texts of few different tokens, so that many begin alike.
    for (let i = 0; i < 60; i++) {
      const text = Array.from({ length: 1 + random.below(6) }, () => 1 + random.below(2));
      const known = texts.filter(
        (other) => other.every((id, at) => id === text[at]) && other.length <= text.length,
      );
      const longest = Math.max(0, ...known.map(({ length }) => length));
      const [reused, logits] = await warm(cache, text);
      expect(reused).toBe(longest);
      if (i % 20 === 0) expect(logits).toHaveLength(300);
      texts.push(text);
    }
  });
});

describe('a budget', () => {
  test.each([1e3, 1e4, 3e4, 1e5])('of %d bytes is kept, and the last used stay', async (bytes) => {
    const cache = new PrefixCache(language, { bytes });
    const all = roomy();
    for (let i = 0; i < 30; i++) {
      await warm(cache, ids(40, i));
      await warm(all, ids(40, i));
      expect(cache.bytes).toBeLessThanOrEqual(bytes);
      // One that is used again and again does not go.
      if (bytes > 3e4) expect((await cache.find(ids(40, 0)))?.length).toBe(40);
    }
    expect(all.size).toBe(30);
    const each = all.bytes / 30;
    expect(cache.size).toBe(Math.floor(bytes / each));
    const kept = [];
    for (let i = 0; i < 30; i++) if (await cache.find(ids(40, i))) kept.push(i);
    const last = Array.from({ length: 30 }, (_, i) => i).slice(30 - cache.size);
    if (bytes <= 3e4) expect(kept).toEqual(last);
    else expect(kept).toEqual([0, ...last.slice(1)]);
  });

  test('counts what states share once', async () => {
    const cache = roomy(attentive);
    await warm(cache, TEXT);
    expect(cache.size).toBe(3);
    // Keys and values of 1,408 tokens, and of each state its tokens and logits.
    expect(cache.bytes).toBe(2 * 2 * 4 * 1408 * 4 + 4 * (512 + 1024 + 1400) + 3 * 4 * 300);
    cache.clear();
    expect([cache.size, cache.bytes]).toEqual([0, 0]);
    expect(await cache.find(TEXT)).toBeUndefined();
  });

  test('is a number', () => {
    for (const bytes of [-1, Number.NaN])
      expect(() => new PrefixCache(language, { bytes })).toThrow(ConfigError);
    expect(() => new PrefixCache(language, { bytes: 1, folderBytes: -1 })).toThrow(
      'folderBytes of the cache is -1',
    );
  });
});

describe('a folder', () => {
  const root = mkdtempSync(join(tmpdir(), 'heddle-cache-'));
  afterAll(() => rmSync(root, { recursive: true }));
  let folder: string;
  let count = 0;
  beforeEach(() => {
    folder = join(root, String(count++));
  });
  const files = (): string[] => (existsSync(folder) ? readdirSync(folder).sort() : []);
  /** As another process would see it: nothing in memory. */
  const opened = (options = {}, model = language): PrefixCache =>
    new PrefixCache(model, { bytes: 1e9, folder, ...options });

  test('has the states for later', async () => {
    await warm(opened(), TEXT);
    expect(files()).toHaveLength(3);
    expect(statSync(folder).mode & 0o077).toBe(0);
    const later = opened();
    const text = [...TEXT.slice(0, 1300), 7];
    const [reused, logits] = await warm(later, text);
    expect(reused).toBe(1024);
    expect(logits).toEqual(await cold(text));
    // From now on it is in memory too.
    rmSync(folder, { recursive: true });
    expect((await warm(later, text))[0]).toBe(1301);
    expect(later.problem).toBeUndefined();
  });

  test('may be shared by models: each finds its own', async () => {
    await warm(opened(), TEXT.slice(0, 100));
    const other = opened({}, attentive);
    expect((await warm(other, TEXT.slice(0, 100)))[0]).toBe(0);
    expect(files()).toHaveLength(2);
    expect((await warm(opened({}, attentive), TEXT.slice(0, 100)))[0]).toBe(100);
    expect((await warm(opened(), TEXT.slice(0, 100)))[0]).toBe(100);
  });

  test('keeps its budget, and what was used last', async () => {
    await warm(opened(), ids(50, 0));
    const { size } = statSync(join(folder, files()[0]!));
    const cache = opened({ folderBytes: 4.5 * size, bytes: 0 });
    for (let i = 1; i < 10; i++) {
      await warm(cache, ids(50, i));
      // The clock of a file system may be coarse.
      for (const [age, name] of files().entries()) {
        const { mtimeMs } = statSync(join(folder, name));
        utimesSync(join(folder, name), new Date(), new Date(mtimeMs - 1000 - age));
      }
      expect((await warm(cache, ids(50, 0)))[0]).toBe(50);
      expect(files().length).toBeLessThanOrEqual(4);
    }
    expect(files()).toHaveLength(4);
    expect((await warm(cache, ids(50, 9)))[0]).toBe(50);
    expect((await warm(cache, ids(50, 1)))[0]).toBe(0);
    await warm(opened({ folderBytes: size / 2, bytes: 0 }), ids(50, 77));
    expect(files()).toHaveLength(4);
  });

  test('of damaged files is read again, and made whole', async () => {
    await warm(opened(), TEXT);
    const random = new Random(3);
    const whole = new Map(files().map((name) => [name, readFileSync(join(folder, name))]));
    for (let round = 0; round < 12; round++) {
      for (const [name, bytes] of whole)
        writeFileSync(join(folder, name), damageBytes(random, Buffer.from(bytes)));
      const cache = opened();
      const text = [...TEXT.slice(0, 1200), 8 + round];
      const [reused, logits] = await warm(cache, text);
      expect(reused % 512).toBe(0);
      expect(logits).toEqual(await cold(text));
      if (reused < 1024) expect(cache.problem).toBeInstanceOf(SnapshotError);
    }
  });

  test('with the file of another text under a name is not believed', async () => {
    await warm(opened(), ids(50, 1));
    const [one] = files();
    const bytes = readFileSync(join(folder, one!));
    await warm(opened(), ids(50, 2));
    const other = files().find((name) => name !== one)!;
    writeFileSync(join(folder, other), bytes);
    const [reused, logits] = await warm(opened(), ids(50, 2));
    expect(reused).toBe(0);
    expect(logits).toEqual(await cold(ids(50, 2)));
  });

  test('holds what is not its own without harm', async () => {
    await warm(opened(), ids(50, 1));
    const strange = [
      'notes.txt',
      '50-x.state',
      `50-${'0'.repeat(64)}.state`,
      '.a.state.1-000000000000.heddle-tmp',
    ];
    for (const name of strange) writeFileSync(join(folder, name), 'mine');
    const old = join(folder, '.b.state.1-000000000000.heddle-tmp');
    writeFileSync(old, 'left behind');
    utimesSync(old, new Date(0), new Date(0));
    expect((await warm(opened(), ids(50, 1)))[0]).toBe(50);
    await warm(opened(), ids(50, 2));
    expect(files()).toEqual(expect.arrayContaining(strange));
    expect(existsSync(old)).toBe(false);
  });

  test('that cannot be used is done without', async () => {
    writeFileSync(folder, 'a file');
    const cache = opened();
    expect((await warm(cache, TEXT))[0]).toBe(0);
    expect(cache.problem).toBeInstanceOf(StorageError);
    expect((await warm(cache, TEXT))[0]).toBe(1400);
    rmSync(folder);
  });

  test.skipIf(process.getuid?.() === 0)('that may not be written to is done without', async () => {
    await warm(opened(), ids(50, 1));
    chmodSync(folder, 0o500);
    const cache = opened();
    expect((await warm(cache, ids(50, 1)))[0]).toBe(50);
    await warm(cache, ids(50, 2));
    expect(cache.problem).toBeInstanceOf(StorageError);
    chmodSync(folder, 0o700);
  });

  test('whose files vanish when they are wanted is read again', async () => {
    await warm(opened(), TEXT);
    const wanted: string[] = [];
    beforeLoading.mockImplementation((path) => {
      wanted.push(path);
      rmSync(path);
    });
    const cache = opened();
    const text = [...TEXT, 5];
    const [reused, logits] = await warm(cache, text);
    expect([reused, wanted.length]).toEqual([0, 3]);
    expect(logits).toEqual(await cold(text));
    expect(cache.problem).toBeUndefined();
  });

  test('is shared by caches that read and write at once', async () => {
    const caches = Array.from({ length: 4 }, () => opened({ bytes: 0, folderBytes: 4e4 }));
    const texts = Array.from({ length: 6 }, (_, i) => [...ids(30, 1), ...ids(20, i)]);
    const expected = await Promise.all(texts.map((text) => cold(text)));
    await Promise.all(
      caches.map(async (cache, c) => {
        for (let i = 0; i < 18; i++) {
          const at = (i * (c + 1)) % texts.length;
          const session = language.session({ cache });
          await session.read(texts[at]!.slice(0, 30));
          session.dispose();
          const [, logits] = await warm(cache, texts[at]!);
          // In one piece or in two, as it comes.
          expect(relativeError(logits, expected[at]!)).toBeLessThan(1e-4);
        }
      }),
    );
    expect(files().every((name) => name.endsWith('.state'))).toBe(true);
  });
});
