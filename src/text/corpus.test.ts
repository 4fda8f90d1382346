import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ConfigError, DataError, TokenizerError } from '../errors.js';
import { refusal } from '../testing/refusal.js';
import { trainBpe } from './bpe.js';
import { type Corpus, encodeCorpus, loadCorpus, splitCorpus } from './corpus.js';
import { Tokenizer } from './tokenizer.js';
import { tokenizerFiles } from './tokenizer-json.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heddle-corpus-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(path: string, contents: string | Uint8Array): Promise<string> {
  const full = join(folder, path);
  await mkdir(join(full, '..'), { recursive: true });
  await writeFile(full, contents);
  return full;
}

const numbered = (count: number): Corpus => ({
  leftOut: [],
  name: 'numbered',
  documents: Array.from({ length: count }, (_, i) => ({ name: `${i}`, text: `text ${i}` })),
});

describe('loading', () => {
  test('a file is one document, with any extension, without its byte order mark', async () => {
    const path = await file('notes.log', '\ufeffÀ la baleine\r\n');
    expect(await loadCorpus(path)).toEqual({
      name: 'notes.log',
      documents: [{ name: 'notes.log', text: 'À la baleine\r\n' }],
      leftOut: [],
    });
  });

  test('a folder is its .txt and .md files at any depth, by path, without blank ones', async () => {
    for (const [path, text] of Object.entries({
      'tree/b.txt': 'b',
      'tree/Z.MD': 'Z',
      'tree/a/z.md': 'a/z',
      'tree/a/blank.txt': ' \n',
      'tree/c.json': '{}',
      'tree/d.txt/inside.txt': 'd',
    })) {
      await file(path, text);
    }
    const corpus = await loadCorpus(join(folder, 'tree/'));
    expect(corpus.name).toBe('tree');
    expect(corpus.documents).toEqual([
      { name: 'Z.MD', text: 'Z' },
      { name: 'a/z.md', text: 'a/z' },
      { name: 'b.txt', text: 'b' },
      { name: 'd.txt/inside.txt', text: 'd' },
    ]);
  });

  test('the speeches are in order of time, each under its year and president', async () => {
    const { name, documents } = await loadCorpus('sotu');
    expect(name).toBe('sotu');
    expect(documents).toHaveLength(233);
    expect(documents[0]?.text).toMatch(/^1790 George Washington\n\nFellow-Citizens of/);
    const years = documents.map((document) => Number.parseInt(document.name, 10));
    expect(years).toEqual([...years].sort((a, b) => a - b));
    expect(new Set(documents.map((document) => document.name)).size).toBe(233);

    const { validation } = splitCorpus({ documents }, { validationFraction: 0.1 });
    const decades = new Set(validation.map((document) => document.name.slice(0, 3)));
    expect(decades.size).toBeGreaterThan(20);
  });

  test('the novel is its chapters, each under its title', async () => {
    const { documents } = await loadCorpus('moby-dick');
    expect(documents).toHaveLength(139);
    expect(documents.map((document) => document.name)).toContain('Chapter 1. Loomings.');
    expect(documents[3]?.text).toMatch(/^Chapter 1\. Loomings\.\n\nCall me Ishmael\./);
    expect(documents.at(-1)?.name).toMatch(/^Epilogue\. /);
  });

  test.each<[string, () => Promise<string>, RegExp]>([
    ['missing', async () => join(folder, 'absent'), /there is no such file.*sotu, moby-dick/],
    ['without documents', async () => join(await file('empty/x.json', '{}'), '..'), /has no text/],
    ['a blank file', () => file('blank.txt', '\n \n'), /has no text/],
    ['binary', () => file('binary.txt', new Uint8Array([0x61, 0, 0x62])), /NUL bytes/],
    ['not UTF-8', () => file('latin1.txt', new Uint8Array([0x6c, 0xe9, 0x20])), /UTF-8/],
    ['cut inside a character', () => file('cut.txt', new Uint8Array([0x61, 0xe9, 0xaf])), /UTF-8/],
  ])('a source that is %s answers with DataError', async (_, make, reason) => {
    const source = await make();
    const error = await refusal(loadCorpus(source));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toContain(source);
    expect(error.message).toMatch(reason);
  });

  test('links are followed once, and broken or cyclic ones are reported', async () => {
    const root = join(folder, 'linked');
    await file('linked/a.txt', 'a');
    await file('linked/deep/b.md', 'b');
    await file('elsewhere/c.txt', 'c');
    await symlink('a.txt', join(root, '0-again.txt'));
    await symlink(join(folder, 'elsewhere'), join(root, 'outside'));
    await symlink('..', join(root, 'deep', 'up'));
    await symlink('nowhere.txt', join(root, 'gone.txt'));
    await symlink('circle.txt', join(root, 'circle.txt'));
    const corpus = await loadCorpus(root);
    expect(corpus.documents.map(({ name }) => name)).toEqual(['a.txt', 'deep/b.md', 'outside/c.txt']);
    expect([...corpus.leftOut].sort()).toEqual([
      'circle.txt (a link that leads to itself)',
      'gone.txt (a link that leads nowhere)',
    ]);
  });

  test('a file of more than 64 MB becomes several documents, cut between lines', async () => {
    const line = 'the cat sat on the mat, and on the map.\n';
    const path = await file('large.txt', line.repeat(Math.ceil((2.5 * 2 ** 26) / line.length)));
    const { documents } = await loadCorpus(path);
    expect(documents.map(({ name, continues }) => [name, continues])).toEqual([
      ['large.txt (part 1 of 3)', undefined],
      ['large.txt (part 2 of 3)', true],
      ['large.txt (part 3 of 3)', true],
    ]);
    for (const { text } of documents) {
      expect(text.length).toBeLessThanOrEqual(2 ** 26);
      expect(text.startsWith('the cat') && text.endsWith('map.\n')).toBe(true);
    }
    const total = documents.reduce((sum, { text }) => sum + text.length, 0);
    expect(total).toBe(line.length * Math.ceil((2.5 * 2 ** 26) / line.length));
  });

  test('a file of a folder that is not text is named', async () => {
    await file('mixed/good.txt', 'good');
    const bad = await file('mixed/deep/bad.md', new Uint8Array([0xff, 0xfe]));
    expect((await refusal(loadCorpus(join(folder, 'mixed')))).message).toContain(bad);
  });
});

describe('splitting', () => {
  test.each([
    [10, 0.1, 1],
    [233, 0.1, 23],
    [100, 0.5, 50],
    [7, 0.9, 6],
    [2, 0.01, 1],
    [2, 0.99, 1],
  ])('of %i documents, %f is %i, at even distances', (count, validationFraction, expected) => {
    const corpus = numbered(count);
    const { training, validation } = splitCorpus(corpus, { validationFraction });
    expect(validation).toHaveLength(expected);
    const together = [...training, ...validation].sort((a, b) => Number(a.name) - Number(b.name));
    expect(together).toEqual(corpus.documents);
    const edges = [-1, ...validation.map(({ name }) => Number(name)), count];
    const gaps = edges.slice(1).map((edge, i) => edge - edges[i]!);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(Math.ceil(count / expected) + 1);
  });

  test('the documents in the middle of each stretch are held out', () => {
    const { validation } = splitCorpus(numbered(10), { validationFraction: 0.2 });
    expect(validation.map(({ name }) => name)).toEqual(['2', '7']);
  });

  test('the split is deterministic', () => {
    const split = () => splitCorpus(numbered(50), { validationFraction: 0.2 });
    expect(split()).toEqual(split());
  });

  test('the tail of a single document is held out, starting at a word', () => {
    const text = 'one two three four five six seven eight nine ten';
    const corpus = { name: 'count', documents: [{ name: 'count.txt', text }] };
    expect(splitCorpus(corpus, { validationFraction: 0.25 })).toEqual({
      training: [{ name: 'count.txt (head)', text: 'one two three four five six seven' }],
      validation: [{ name: 'count.txt (tail)', text: ' eight nine ten' }],
    });
  });

  test('a text without spaces is cut between characters', () => {
    const corpus = { name: 'pod', documents: [{ name: 'pod', text: '🐋'.repeat(3001) }] };
    const { training, validation } = splitCorpus(corpus, { validationFraction: 0.5 });
    expect([training[0]?.text, validation[0]?.text]).toEqual(['🐋'.repeat(1500), '🐋'.repeat(1501)]);
  });

  test('refuses invalid fractions', () => {
    for (const validationFraction of [0, 1, -0.1, Number.NaN]) {
      expect(() => splitCorpus(numbered(5), { validationFraction })).toThrow(ConfigError);
    }
    const short = { name: 'short', documents: [{ name: 'short', text: 'whale' }] };
    expect(() => splitCorpus(short, { validationFraction: 0.01 })).toThrow(DataError);
  });
});

describe('encoding', () => {
  test('an end-of-text token separates documents', () => {
    const { documents } = numbered(3);
    const texts = documents.map(({ text }) => text);
    const tokenizer = new Tokenizer(tokenizerFiles(trainBpe(texts, { vocabSize: 260 })));
    const ids = encodeCorpus(tokenizer, documents);
    expect(ids).toBeInstanceOf(Int32Array);
    expect(tokenizer.decode(ids)).toBe('text 0<|endoftext|>text 1<|endoftext|>text 2');
    expect([...ids].filter((id) => id === tokenizer.endOfText)).toHaveLength(2);
    expect(encodeCorpus(tokenizer, [])).toHaveLength(0);
    expect(encodeCorpus(tokenizer, [{ name: 'empty', text: '' }, documents[0]!])).toEqual(
      Int32Array.from([0, ...tokenizer.encode('text 0')]),
    );
  });

  test('several documents need an end-of-text token', () => {
    const { documents } = numbered(2);
    const files = tokenizerFiles(trainBpe(['text'], { vocabSize: 256, specialTokens: [] }));
    const tokenizer = new Tokenizer(files);
    expect(() => encodeCorpus(tokenizer, documents)).toThrow(TokenizerError);
    expect(encodeCorpus(tokenizer, documents.slice(0, 1))).toHaveLength(6);
  });
});
