/**
 * Thousands of damaged files, made from whole ones by changes that know the format. Each must open and read completely, or
 * be refused with a `CheckpointError`; none may make the reader ask for more memory than the file has bytes.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { CheckpointError } from '../errors.js';
import { openSafetensors } from './safetensors.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-fuzz-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

const SEED = 20_240_601;
const CASES = 3_000;

/** Whole numbers below a bound, from a multiplicative congruential generator (Lehmer's, modulus 2^31 - 1). */
function randomNumbers(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % bound;
  };
}

const random = randomNumbers(SEED);
const pick = <T>(choices: readonly T[]): T => choices[random(choices.length)]!;

interface Entry {
  dtype: unknown;
  shape: unknown;
  data_offsets: unknown;
}

const sizes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
};

/** A header that describes `dataBytes` bytes as it should. */
function wholeHeader(): { header: Record<string, unknown>; entries: Entry[]; dataBytes: number } {
  const entries: Entry[] = [];
  let dataBytes = 0;
  for (let left = random(4) + 1; left > 0; left--) {
    const dtype = pick(Object.keys(sizes) as (keyof typeof sizes)[]);
    const shape = Array.from({ length: random(4) }, () => random(4));
    const begin = dataBytes;
    dataBytes += shape.reduce((product, size) => product * size, sizes[dtype]);
    entries.push({ dtype, shape, data_offsets: [begin, dataBytes] });
  }
  const named = entries.map((entry, i) => [`layers.${i}.weight`, entry] as const);
  const metadata = random(2) ? { __metadata__: { format: 'pt' } } : {};
  return { header: { ...metadata, ...Object.fromEntries(named) }, entries, dataBytes };
}

/** Values that someone else's header might have anywhere. */
const strange: readonly unknown[] = [
  ...[
    null,
    true,
    '',
    'F32',
    'BF16',
    'F4',
    'toString',
    '__proto__',
    -1,
    -0,
    0,
    1,
    8,
    0.5,
    1e308,
    2 ** 31,
    2 ** 32,
  ],
  ...[
    2 ** 53 - 1,
    2 ** 53,
    [],
    {},
    [0],
    [0, 0],
    [0, 8],
    [8, 0],
    [[[[]]]],
    { a: { b: { c: 1 } } },
    [null, null],
  ],
  ...[[2 ** 53 - 1, 0], [2 ** 32, 2 ** 32], [1e308, 1e308], [2 ** 53 - 9, 2 ** 53 - 1], Array(300).fill(1)],
];

/** Changes to the header as an object. */
const objectChanges: readonly ((header: Record<string, unknown>, entries: Entry[]) => void)[] = [
  (_, entries) => {
    pick(entries)[pick(['dtype', 'shape', 'data_offsets'] as const)] = pick(strange);
  },
  (_, entries) => {
    const list = pick(entries)[pick(['shape', 'data_offsets'] as const)];
    if (Array.isArray(list)) list[random(list.length + 1)] = pick(strange);
  },
  (_, entries) => {
    const { data_offsets: offsets } = pick(entries);
    if (Array.isArray(offsets)) for (const i of [0, 1]) offsets[i] += random(5) - 2;
  },
  (_, entries) => {
    delete (pick(entries) as Partial<Entry>)[pick(['dtype', 'shape', 'data_offsets'] as const)];
  },
  (_, entries) => {
    pick(entries).data_offsets = pick(entries).data_offsets;
  },
  (_, entries) => {
    pick(entries).dtype = pick(Object.keys(sizes));
  },
  (header) => {
    header[pick(Object.keys(header))] = pick(strange);
  },
  (header) => {
    header[pick(['__metadata__', 'extra', '7'])] = pick(strange);
  },
  (header) => {
    delete header[pick(Object.keys(header))];
  },
];

/** Changes to the header as text. */
const textChanges: readonly ((text: string) => string)[] = [
  (text) => text + ' '.repeat(random(20)),
  (text) => `${text.slice(0, -1)},${text.slice(1)}`,
  (text) => text.slice(0, random(text.length)),
  (text) => text.slice(random(text.length)),
  (text) =>
    splice(text, random(3), pick(['{', '}', '[', ']', '"', ',', ':', '\\', '0', '-', ' ', '\u0000', 'é'])),
  (text) =>
    splice(
      text,
      0,
      pick(['['.repeat(50_000), '{"a":'.repeat(20_000), '"'.repeat(999), '\\u', '1e999', '9'.repeat(99)]),
    ),
];

function splice(text: string, dropped: number, added: string): string {
  const at = random(text.length);
  return text.slice(0, at) + added + text.slice(at + dropped);
}

/** Changes to the file as bytes. */
const byteChanges: readonly ((bytes: Buffer) => Buffer)[] = [
  (bytes) => bytes.subarray(0, random(bytes.length)),
  (bytes) => bytes.subarray(random(bytes.length)),
  (bytes) => Buffer.concat([bytes, Buffer.alloc(random(9))]),
  (bytes) => {
    bytes[random(bytes.length)] = random(256);
    return bytes;
  },
  (bytes) => {
    bytes[random(8)] = random(256);
    return bytes;
  },
  (bytes) => {
    const length = bytes.readBigUInt64LE();
    const announced = pick([
      0n,
      1n,
      2n,
      length - 1n,
      length + 1n,
      length + 8n,
      100_000_000n,
      2n ** 53n,
      2n ** 64n - 1n,
    ]);
    bytes.writeBigUInt64LE(announced);
    return bytes;
  },
];

function damagedFile(): Buffer {
  const { header, entries, dataBytes } = wholeHeader();
  const kinds = random(8);
  if (kinds & 1) for (let left = random(2); left >= 0; left--) pick(objectChanges)(header, entries);
  let text = JSON.stringify(header);
  if (kinds & 2) text = pick(textChanges)(text);
  const json = Buffer.from(text);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const bytes = Buffer.concat([length, json, Buffer.alloc(dataBytes, 1)]);
  return kinds & 4 ? pick(byteChanges)(bytes) : bytes;
}

/** The bytes of all tensors of a file, each of which must be readable. */
async function readAll(path: string): Promise<number> {
  const file = await openSafetensors(path);
  try {
    let bytes = 0;
    for (const [name, { dtype, shape }] of file.tensors) {
      const { data } = await file.read(name);
      expect(data.length).toBe(shape.reduce((product, size) => product * size, 1));
      if (/F\d\d/.test(dtype)) expect((await file.readFloat32(name)).length).toBe(data.length);
      bytes += data.byteLength;
    }
    return bytes;
  } finally {
    await file.close();
  }
}

test(`${CASES} damaged files, seed ${SEED}: each is read completely or refused, within its own size`, async () => {
  let largest = 0;
  const measured = <T extends typeof ArrayBuffer | typeof Uint8Array>(type: T) =>
    new Proxy(type, {
      construct(target, operands) {
        if (typeof operands[0] === 'number') largest = Math.max(largest, operands[0]);
        return Reflect.construct(target, operands);
      },
    });

  const path = join(here, 'damaged.safetensors');
  let readable = 0;
  for (let i = 0; i < CASES; i++) {
    const bytes = damagedFile();
    writeFileSync(path, bytes);
    largest = 0;
    vi.stubGlobal('ArrayBuffer', measured(ArrayBuffer));
    vi.stubGlobal('Uint8Array', measured(Uint8Array));
    const outcome = await readAll(path).catch((error: unknown) => error);
    vi.unstubAllGlobals();

    const shown = `case ${i}: ${bytes.toString('latin1').slice(0, 1000)}`;
    if (typeof outcome === 'number') {
      readable++;
      expect(outcome, shown).toBe(bytes.length - 8 - Number(bytes.readBigUInt64LE()));
    } else {
      expect(outcome, shown).toBeInstanceOf(CheckpointError);
    }
    // A half takes twice its room as float32.
    expect(largest, shown).toBeLessThanOrEqual(2 * bytes.length);
  }
  expect(readable).toBeGreaterThan(CASES / 10);
  expect(CASES - readable).toBeGreaterThan(CASES / 2);
});
