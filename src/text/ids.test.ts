/** Files of ids from NumPy, nanoGPT and llm.c, and numbers in a text; errors name the position. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { ConfigError, DataError } from '../errors.js';
import { Random } from '../nn/index.js';
import { isOfIds, readIds, splitIds } from './ids.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-id-files-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(here, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

const bytes = (values: ArrayBufferView): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** As numpy.lib.format writes version 1.0: the header ends with a newline, at a multiple of 64. */
function npy(descr: string, shape: string, values: ArrayBufferView, order = 'False'): Uint8Array {
  const dictionary = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`;
  const header = `${dictionary.padEnd(Math.ceil((11 + dictionary.length) / 64) * 64 - 11)}\n`;
  const length = Uint8Array.of(header.length & 255, header.length >> 8);
  return Buffer.concat([
    Buffer.from('\x93NUMPY\x01\x00', 'latin1'),
    length,
    Buffer.from(header),
    bytes(values),
  ]);
}

const documents = async (path: string, form?: Parameters<typeof readIds>[1]): Promise<number[][]> =>
  (await readIds(path, form)).documents.map((ids) => [...ids]);

test.each([
  [
    'a line a document',
    '1 2 3\n4 5\n',
    [
      [1, 2, 3],
      [4, 5],
    ],
  ],
  ['commas, tabs, blank lines, a BOM, lines of Windows', '\uFEFF1,2,\t3\r\n\r\n4\r\n', [[1, 2, 3], [4]]],
  ['lists in JSON', '[7, 8]\n[]\n[0]', [[7, 8], [0]]],
])('numbers in a text: %s', async (_, text, expected) => {
  expect(await documents(file('ids.txt', text), 'text')).toEqual(expected);
});

test('lines, numbers and line ends may span chunks of a file', async () => {
  const random = new Random(2);
  const line = Array.from({ length: 30_000 }, () => random.below(2 ** (1 + random.below(31))));
  const text = [line.join(' '), line.slice(0, 9_000).join(','), `[${line.slice(5).join(', ')}]`].join('\r\n');
  expect(text.length).toBeGreaterThan(6 * 2 ** 16);
  expect(await documents(file('long.txt', text), 'text')).toEqual([
    line,
    line.slice(0, 9_000),
    line.slice(5),
  ]);
  // A carriage return at the end of a chunk, and its line feed in the next.
  const cut = `${'7 '.repeat(2 ** 15 - 1)}7\r\n8 x9`;
  expect(cut.charAt(2 ** 16 - 1)).toBe('\r');
  await expect(readIds(file('cut.txt', cut), 'text')).rejects.toThrow(/line 2 has 'x9'/);
  const endless = file('endless.txt', `1\n${'9'.repeat(200_000)}`);
  await expect(readIds(endless, 'text')).rejects.toThrow(/line 2 has '9{40}': expected token ids/);
});

test('more ids than the memory can hold are refused', async () => {
  const path = file('huge.bin', bytes(Uint16Array.of(9, 50_256, 1)));
  const without = class {
    constructor() {
      throw new RangeError('Array buffer allocation failed');
    }
  };
  vi.stubGlobal('Int32Array', without);
  onTestFinished(() => void vi.unstubAllGlobals());
  const run = readIds(path);
  await expect(run).rejects.toThrow(DataError);
  await expect(run).rejects.toThrow(/huge\.bin has 3 ids or more, which take .* and there is not so much/);
});

test.each([
  ['uint16', '<u2', Uint16Array.of(3, 0, 65_535)],
  ['uint8', '|u1', Uint8Array.of(3, 0, 255)],
  ['int32', '<i4', Int32Array.of(3, 0, 100_000)],
  ['uint32', '<u4', Uint32Array.of(3, 0, 2 ** 31 - 1)],
  ['int64, the default', '<i8', BigInt64Array.of(3n, 0n, 70_000n)],
])('a row of NumPy in %s', async (_, type, values) => {
  const read = await readIds(file('row.npy', npy(type, '(3,)', values)));
  expect(read.documents.map((ids) => [...ids])).toEqual([[...values].map(Number)]);
  expect(read.highest).toBe(Number(values[2]));
});

test('a matrix of NumPy has a document in each row', async () => {
  const path = file('rows.npy', npy('<u2', '(2, 3)', Uint16Array.of(1, 2, 3, 4, 5, 6)));
  expect(await documents(path)).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ]);
});

describe('.bin', () => {
  test('of nanoGPT, and the same with numbers of 4 bytes', async () => {
    expect(await documents(file('a.bin', bytes(Uint16Array.of(9, 50_256, 1))))).toEqual([[9, 50_256, 1]]);
    const wide = file('b.bin', bytes(Uint32Array.of(9, 70_000, 1)));
    expect(await documents(wide, 'uint32')).toEqual([[9, 70_000, 1]]);
  });

  test.each([
    ['uint16', 20_240_520, 1, Uint16Array.of(5, 6, 7)],
    ['uint32', 20_240_801, 7, Uint32Array.of(5, 6, 128_000)],
  ])('of llm.c, with a header, in %s', async (_, magic, version, ids) => {
    const header = new Int32Array(256);
    header.set([magic, version, ids.length]);
    const whole = Buffer.concat([bytes(header), bytes(ids)]);
    expect(await documents(file('c.bin', whole))).toEqual([[...ids]]);
    const cut = file('d.bin', whole.subarray(0, whole.length - ids.BYTES_PER_ELEMENT));
    await expect(readIds(cut)).rejects.toThrow(/says that it has 3 ids, and has 2/);
  });

  test('4-byte numbers are not read as 2-byte numbers, unless that format is given', async () => {
    const path = file('e.bin', bytes(Uint32Array.of(1, 2, 3, 4)));
    await expect(readIds(path)).rejects.toThrow(/every other number is 0.*--ids uint32/);
    expect(await documents(path, 'uint16')).toEqual([[1, 0, 2, 0, 3, 0, 4, 0]]);
    const large = Uint32Array.from({ length: 100 }, (_, k) => (k * 7919) % 128_000);
    await expect(readIds(file('f.bin', bytes(large)))).rejects.toThrow(/--ids uint32/);
    const narrow = Uint16Array.from({ length: 100 }, (_, k) => (k * 7919) % 50_257);
    expect(await documents(file('g.bin', bytes(narrow)))).toEqual([[...narrow]]);
  });
});

test('a folder: files in order, validation files held out; with a text file it is a corpus of texts', async () => {
  file('set/train_2.bin', bytes(Uint16Array.of(3)));
  file('set/train_1.bin', bytes(Uint16Array.of(2)));
  file('set/val.bin', bytes(Uint16Array.of(90)));
  const read = await readIds(join(here, 'set'));
  expect(read.documents.map((ids) => [...ids])).toEqual([[2], [3]]);
  expect(read.heldOut.map((ids) => [...ids])).toEqual([[90]]);
  expect(read.highest).toBe(90);
  expect(await isOfIds(join(here, 'set'))).toBe(true);
  file('set/books/input.txt', '1 2\n3');
  expect(await isOfIds(join(here, 'set'))).toBe(false);
  await expect(readIds(join(here, 'set'), 'text')).rejects.toThrow('has no .txt files');
  const written = await readIds(join(here, 'set/books'), 'text');
  expect(written.documents.map((ids) => [...ids])).toEqual([[1, 2], [3]]);
  expect([await isOfIds(file('x.npy', '')), await isOfIds(file('x.txt', '')), await isOfIds('sotu')]).toEqual(
    [true, false, false],
  );
});

test.each<[string, string, string | Uint8Array, RegExp]>([
  ['a word', 'f.txt', '1 2\n3 cat\n', /f\.txt, line 2 has 'cat': expected token ids/],
  ['a number below 0', 'f.txt', '1 -2', /line 1 has '-2'/],
  ['a fraction', 'f.txt', '1 2.5', /line 1 has '2\.5'/],
  ['one that is too high', 'f.txt', '1 3000000000', /line 1 has '3000000000'/],
  ['nothing', 'f.txt', '\n\n', /has no token ids to learn from/],
  [
    'half a number',
    'f.bin',
    Uint8Array.of(1, 0, 2),
    /3 bytes of ids, which is no whole number of them at 2 bytes/,
  ],
  ['no bytes', 'f.bin', '', /has no token ids to learn from/],
  ['a text called .npy', 'f.npy', 'hello, this is a text', /is no file of NumPy/],
  ['floats', 'f.npy', npy('<f4', '(2,)', Float32Array.of(1, 2)), /numbers of the type <f4/],
  ['the other order of bytes', 'f.npy', npy('>u2', '(2,)', Uint16Array.of(1, 2)), /numbers of the type >u2/],
  ['a cube', 'f.npy', npy('<u2', '(1, 1, 2)', Uint16Array.of(1, 2)), /the shape \(1, 1, 2\)/],
  ['a matrix by columns', 'f.npy', npy('<u2', '(2, 1)', Uint16Array.of(1, 2), 'True'), /by columns/],
  [
    'one that was cut off',
    'f.npy',
    npy('<u2', '(9,)', Uint16Array.of(1, 2)),
    /says that it has 9 ids, and has 2/,
  ],
  ['an id below 0', 'f.npy', npy('<i4', '(2,)', Int32Array.of(1, -2)), /has -2 at place 1/],
  [
    'an id that is too high',
    'f.npy',
    npy('<i8', '(1,)', BigInt64Array.of(2n ** 40n)),
    /has 1099511627776 at place 0/,
  ],
])('refuses %s', async (_, name, content, message) => {
  const failure = readIds(file(name, content), name.endsWith('.txt') ? 'text' : undefined);
  await expect(failure).rejects.toThrow(DataError);
  await expect(failure).rejects.toThrow(message);
});

test('a missing file is an error', async () => {
  await expect(readIds(join(here, 'none.bin'))).rejects.toThrow(/none\.bin cannot be read/);
});

describe('what is held out', () => {
  const corpus = (documents: number[][], heldOut: number[][] = []) => {
    const rows = (some: number[][]) => some.map((ids) => Int32Array.from(ids));
    return { name: 'ids', documents: rows(documents), heldOut: rows(heldOut), highest: 9 };
  };
  const split = (...args: Parameters<typeof splitIds>) => {
    const { training, validation } = splitIds(...args);
    return [training, validation].map((documents) => documents.map((ids) => [...ids]));
  };

  test("is the corpus's own validation set, else whole documents, else the tail", () => {
    expect(split(corpus([[1, 2]], [[3]]), 0.5)).toEqual([[[1, 2]], [[3]]]);
    expect(split(corpus([[1], [2], [3], [4]]), 0.25)).toEqual([[[1], [2], [4]], [[3]]]);
    expect(split(corpus([[1, 2, 3, 4]]), 0.25)).toEqual([[[1, 2, 3]], [[4]]]);
  });

  test('an end token splits a document, and is added where it is missing', () => {
    expect(split(corpus([[1, 0, 2, 3, 0, 4]], [[5]]), 0.5, 0)).toEqual([
      [
        [1, 0],
        [2, 3, 0],
        [4, 0],
      ],
      [[5, 0]],
    ]);
  });

  test('needs documents and a fraction', () => {
    expect(() => splitIds(corpus([[1]]), 0.1)).toThrow(DataError);
    expect(() => splitIds(corpus([[1]]), 1)).toThrow(ConfigError);
  });
});
