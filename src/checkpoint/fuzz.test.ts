/**
 * Thousands of damaged files and folders, made from valid ones. Each must either open and then be read as its header says, or be
 * refused with a `CheckpointError`; none may make the reader allocate more memory than the files have bytes.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { CheckpointError } from '../errors.js';
import { Random } from '../nn/random.js';
import { openSafetensors } from './safetensors.js';
import { arrayTypes } from './safetensors-header.js';
import { damageBytes, damagedFile, someNames, tensorNames, wholeFile } from './testing/file-damage.js';
import { damageText, damageTree, oddities, pick, spell, type Tree, treeOf } from './testing/json-damage.js';
import { openWeights } from './weight-files.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-fuzz-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

const SEED = 20_240_601;

type Opened = Awaited<ReturnType<typeof openSafetensors | typeof openWeights>>;

/** Reads every tensor in every way, and compares it with the bytes of its file. Returns the number of bytes. */
async function readAll(file: Opened, fileOf: (name: string) => Buffer): Promise<number> {
  let total = 0;
  for (const [name, { dtype, shape, byteOffset, byteLength }] of file.tensors) {
    const stored = await file.read(name);
    expect(stored).toMatchObject({ dtype, shape });
    expect(stored.data).toBeInstanceOf(arrayTypes[dtype]);
    expect(stored.data.length).toBe(shape.reduce((product, size) => product * size, 1));
    expect(stored.data.byteLength).toBe(byteLength);
    const bytes = fileOf(name).subarray(byteOffset, byteOffset + byteLength);
    expect(Buffer.from(stored.data.buffer).equals(bytes)).toBe(true);
    if (/F\d\d/.test(dtype)) {
      const values = await file.readFloat32(name);
      expect(values.length).toBe(stored.data.length);
      const around = new Float32Array(values.length + 2).fill(7);
      await file.readFloat32Into(name, around.subarray(1, -1));
      expect([...around]).toEqual([7, ...values, 7]);
    } else {
      await expect(file.readFloat32(name)).rejects.toBeInstanceOf(CheckpointError);
    }
    total += byteLength;
  }
  return total;
}

/** Collects the reasons of all refusals of a test, so that a reason that no case reaches is noticed. */
class Refusals {
  readonly #reasons: string[] = [];

  add(error: unknown, shown: () => string): void {
    if (!(error instanceof CheckpointError)) expect(error, shown()).toBeInstanceOf(CheckpointError);
    const { message } = error as Error;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the test is that there are none.
    if (/[\u0000-\u001f\u007f-\u009f\u2028-\u202e]/.test(message) || message.length > 1500) {
      throw new Error(`Not fit to be shown: ${JSON.stringify(message)}`);
    }
    this.#reasons.push(message);
  }

  get size(): number {
    return this.#reasons.length;
  }

  expectAll(...reasons: RegExp[]): void {
    for (const reason of reasons) {
      expect(
        this.#reasons.some((message) => reason.test(message)),
        String(reason),
      ).toBe(true);
    }
  }
}

/** The result or error of `work`, and the largest array in bytes that was allocated meanwhile. */
async function watched<T>(work: () => Promise<T>): Promise<{ result?: T; error?: unknown; largest: number }> {
  let largest = 0;
  const measured = <A extends typeof ArrayBuffer | typeof Uint8Array | typeof Float32Array>(type: A) =>
    new Proxy(type, {
      construct(target, operands) {
        const bytes = 'BYTES_PER_ELEMENT' in target ? target.BYTES_PER_ELEMENT : 1;
        if (typeof operands[0] === 'number') largest = Math.max(largest, operands[0] * bytes);
        return Reflect.construct(target, operands);
      },
    });
  vi.stubGlobal('ArrayBuffer', measured(ArrayBuffer));
  vi.stubGlobal('Uint8Array', measured(Uint8Array));
  vi.stubGlobal('Float32Array', measured(Float32Array));
  try {
    return { result: await work(), largest };
  } catch (error) {
    return { error, largest };
  } finally {
    vi.unstubAllGlobals();
  }
}

/** Opens the file, reads every tensor, and closes it; throws the reader's errors. */
async function wholeRead(path: string, bytes: Buffer): Promise<number> {
  const file = await openSafetensors(path);
  try {
    return await readAll(file, () => bytes);
  } finally {
    await file.close();
  }
}

const shownBytes = (bytes: Buffer) => JSON.stringify(bytes.toString('latin1').slice(0, 2000));

const path = join(here, 'damaged.safetensors');

test(`damaged files, seed ${SEED}: each is read as its header says or refused, with no more memory than its size`, async () => {
  const random = new Random(SEED);
  const refusals = new Refusals();
  let readable = 0;
  for (let i = 0; i < 2500; i++) {
    const bytes = damagedFile(random, someNames(random));
    const shown = () => `case ${i}: ${shownBytes(bytes)}`;
    writeFileSync(path, bytes);
    const { result, error, largest } = await watched(() => wholeRead(path, bytes));
    if (result === undefined) {
      refusals.add(error, shown);
    } else {
      readable++;
      expect(result, shown()).toBe(bytes.length - 8 - Number(bytes.readBigUInt64LE()));
    }
    // A float16 takes twice its bytes as float32, and the test's own array has two more elements.
    if (largest > 2 * bytes.length + 8) expect(largest, shown()).toBeLessThanOrEqual(2 * bytes.length + 8);
  }
  expect(readable).toBeGreaterThan(500);
  expect(refusals.size).toBeGreaterThan(1000);
  refusals.expectAll(
    ...[/expected at least 8/, /announce a header/, /ends inside its header/, /does not begin with "\{"/],
    ...[/not JSON in UTF-8/, /nested more than 3 deep/, /occurs twice/, /__metadata__ is not an/],
    ...[/is not described/, /has the dtype/, /has the shape/, /has the data_offsets/, /by its data_offsets/],
    ...[/overlaps/, /leaves a hole/, /is truncated/, /belong to no tensor/],
  );
});

test('a truncated file is refused, wherever it was cut', async () => {
  const random = new Random(SEED);
  let dataBytes = 0;
  for (let i = 0; i < 3; i++) {
    const bytes = wholeFile(random, ['a.weight', 'größe', 'x']);
    writeFileSync(path, bytes);
    dataBytes += await wholeRead(path, bytes);
    for (let length = bytes.length - 1; length >= 0; length--) {
      truncateSync(path, length);
      await expect(openSafetensors(path)).rejects.toBeInstanceOf(CheckpointError);
    }
  }
  expect(dataBytes).toBeGreaterThan(0);
});

test('every bit of a header flipped: the file is read as its header says or refused', async () => {
  const random = new Random(SEED);
  const refusals = new Refusals();
  const whole = wholeFile(random, ['a', '__proto__']);
  const headerEnd = 8 + Number(whole.readBigUInt64LE());
  let readable = 0;
  for (let bit = 0; bit < headerEnd * 8; bit++) {
    const bytes = Buffer.from(whole);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    writeFileSync(path, bytes);
    const { result, error } = await watched(() => wholeRead(path, bytes));
    if (result === undefined) refusals.add(error, () => `bit ${bit} of ${shownBytes(whole)}`);
    else readable++;
  }
  // A flipped bit in a name leaves the file valid.
  expect(readable).toBeGreaterThan(10);
  expect(refusals.size).toBeGreaterThan(headerEnd * 6);
});

const shardNames = [
  'model-00001-of-00003.safetensors',
  'model-00002-of-00003.safetensors',
  'model-3.safetensors',
];

/** A valid folder of three shards and their index. */
function wholeFolder(random: Random, folder: string): Map<string, string> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const weightMap = new Map<string, string>();
  const order = [...random.permutation(tensorNames.length)].map((i) => tensorNames[i]!);
  for (const shard of shardNames) {
    const names = order.splice(0, 1 + random.below(3));
    writeFileSync(join(folder, shard), wholeFile(random, names));
    for (const name of names) weightMap.set(name, shard);
  }
  return weightMap;
}

const indexOf = (weightMap: Tree): Tree => ({
  members: [
    ['"metadata"', treeOf({ total_size: 5 })],
    ['"weight_map"', weightMap],
  ],
});

const indexName = 'model.safetensors.index.json';

/** Opens and reads a folder: it must have the tensors of its index, in its own files; a missing tensor must be refused with its `absent` message. */
async function readFolder(folder: string): Promise<number> {
  const weights = await openWeights(folder);
  try {
    const { weight_map: weightMap } = JSON.parse(readFileSync(join(folder, indexName), 'utf8')) as {
      weight_map: Record<string, string>;
    };
    const [absent] = weights.absent.values();
    if (absent !== undefined) throw new CheckpointError(absent);
    // Other tensors of the shards are ignored.
    const places = [...weights.tensors]
      .filter(([name]) => Object.hasOwn(weightMap, name))
      .map(([name, { path }]) => [name, basename(path)]);
    expect(places.sort()).toEqual(Object.entries(weightMap).sort());
    for (const { path } of weights.tensors.values()) expect(dirname(path)).toBe(folder);
    return await readAll(weights, (name) => readFileSync(weights.tensors.get(name)!.path));
  } finally {
    await weights.close();
  }
}

test(`damaged indexes, seed ${SEED}: each folder is read as its index says or refused`, async () => {
  const random = new Random(SEED);
  const refusals = new Refusals();
  const folder = join(here, 'model');
  const outside = join(here, 'outside.safetensors');
  const places = ['../outside.safetensors', outside, '..\\outside.safetensors', 'below/inside.safetensors'];
  const odd = [
    './model-3.safetensors',
    'model-3.bin',
    'none.safetensors',
    '.safetensors',
    'C:x.safetensors',
    '..',
  ];
  const strangers = [...places, ...odd, ...shardNames].map((name) => JSON.stringify(name));
  let readable = 0;
  for (let world = 0; world < 20; world++) {
    const weightMap = wholeFolder(random, folder);
    // The target of the path exists and is valid, so that only the path can be refused.
    mkdirSync(join(folder, 'below'));
    copyFileSync(join(folder, shardNames[0]!), outside);
    copyFileSync(join(folder, shardNames[0]!), join(folder, 'below', 'inside.safetensors'));
    for (let i = 0; i < 45; i++) {
      const tree = indexOf(random.below(8) ? treeOf(weightMap) : pick(random, oddities));
      for (let changes = random.below(3); changes > 0; changes--) damageTree(random, tree, strangers);
      let text = spell(tree);
      if (random.below(6) === 0) text = damageText(random, text);
      if (random.below(6) === 0)
        text = text.replaceAll(JSON.stringify(shardNames[0]), pick(random, strangers));
      let bytes: Buffer = Buffer.from(text);
      if (random.below(20) === 0 && bytes.length > 0)
        bytes = damageBytes(random, Buffer.concat([bytes, Buffer.alloc(8)]));
      writeFileSync(join(folder, indexName), bytes);
      const { result, error, largest } = await watched(() => readFolder(folder));
      const shown = () => `case ${i} of world ${world}: ${shownBytes(bytes)}`;
      if (result === undefined) refusals.add(error, shown);
      else readable++;
      if (largest > bytes.length + 2000) expect(largest, shown()).toBeLessThanOrEqual(bytes.length + 2000);
    }
  }
  expect(readable).toBeGreaterThan(150);
  expect(refusals.size).toBeGreaterThan(300);
  refusals.expectAll(
    ...[/not JSON in UTF-8/, /nested more than 8 deep/, /occurs twice/, /an object with a weight_map/],
    ...[/its weight_map is/, /bare name/, /weight_map is empty/, /is missing/, /which does not have it/],
  );
});

test(`damaged shards, seed ${SEED}: each folder is read as its index says or refused`, async () => {
  const random = new Random(SEED);
  const refusals = new Refusals();
  const folder = join(here, 'model');
  let readable = 0;
  for (let i = 0; i < 300; i++) {
    const weightMap = wholeFolder(random, folder);
    writeFileSync(join(folder, indexName), spell(indexOf(treeOf(weightMap))));
    const [one, other] = [...random.permutation(3)].map((shard) => join(folder, shardNames[shard]!));
    const names = [...weightMap].filter(([, shard]) => shard === basename(one!)).map(([name]) => name);
    const change = random.below(6);
    if (change === 0) rmSync(one!);
    else if (change === 1) copyFileSync(one!, other!);
    else if (change === 2) {
      renameSync(one!, `${one}.moved`);
      renameSync(other!, one!);
      renameSync(`${one}.moved`, other!);
    } else if (change === 3) writeFileSync(one!, wholeFile(random, someNames(random)));
    else if (change === 4) writeFileSync(one!, damagedFile(random, names));
    else writeFileSync(one!, damageBytes(random, readFileSync(one!)));
    const { result, error } = await watched(() => readFolder(folder));
    if (result === undefined) refusals.add(error, () => `case ${i}`);
    else readable++;
  }
  expect(readable).toBeGreaterThan(0);
  expect(refusals.size).toBeGreaterThan(150);
  refusals.expectAll(
    ...[/is missing/, /is both in/, /which does not have it: .* does/, /does not have it\. /],
    /ends inside its header/,
  );
});

test.skipIf(!existsSync('/proc/self/fd'))('no case leaves a file open', () => {
  const open = readdirSync('/proc/self/fd').filter((number) => {
    const link = join('/proc/self/fd', number);
    return existsSync(link) && readlinkSync(link).startsWith(here);
  });
  expect(open).toEqual([]);
});
