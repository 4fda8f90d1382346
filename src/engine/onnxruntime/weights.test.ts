/** Weights in files are the same weights, wherever the files are; and what is said of those that are not as they should be. */

import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DeviceError } from '../../errors.js';
import { add, input, matmul, multiply } from '../../graph/index.js';
import { uniform } from '../../graph/testing/random.js';
import {
  float32,
  type HostTensor,
  openDevice,
  type StoredPart,
  type StoredTensor,
  type Weight,
} from '../index.js';
import { withInputs } from '../testing/with-inputs.js';
import type { OrtExecutable } from './executable.js';

const device = await openDevice('cpu', { threads: 1 });

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'heddle-weights-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** 256 bytes of something else stand before every tensor. */
const BEFORE = 256;

type FloatType = 'float32' | 'float16' | 'bfloat16';

/** The bytes of values that the type holds exactly. */
function encode(values: Float32Array, type: FloatType): Uint8Array {
  if (type === 'float32') return new Uint8Array(values.slice().buffer);
  const bits = new Uint32Array(values.slice().buffer);
  const halves = Uint16Array.from(bits, (b) => {
    if (type === 'bfloat16') return b >>> 16;
    const sign = (b >>> 16) & 0x8000;
    return (b & 0x7fffffff) === 0 ? sign : sign | ((((b >>> 23) & 0xff) - 112) << 10) | ((b >>> 13) & 0x3ff);
  });
  return new Uint8Array(halves.buffer);
}

/** Writes a file of these tensors, one after the other, and returns where each is. */
function write(
  path: string,
  tensors: readonly { values: Float32Array; type: FloatType }[],
  before = BEFORE,
): StoredPart[] {
  const chunks: Uint8Array[] = [new Uint8Array(before).fill(255)];
  let byteOffset = before;
  const parts = tensors.map(({ values, type }): StoredPart => {
    const bytes = encode(values, type);
    chunks.push(bytes);
    byteOffset += bytes.length;
    return { path, byteOffset: byteOffset - bytes.length, byteLength: bytes.length, dtype: type };
  });
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, Buffer.concat(chunks));
  return parts;
}

const x = input('x', 'float32', ['rows', 6]);
const w = input('w', 'float32', [4, 6]);
const b = input('b', 'float32', [4]);
const outputs = { y: add(matmul(x, w, { transposeB: true }), b) };
const fed = uniform(1, [3, 6]);

/** Multiples of 2^-7 from -1 to 1, which all three types hold. */
function coarse(seed: number, dims: readonly number[]): HostTensor {
  return float32(
    (uniform(seed, dims).data as Float32Array).map((value) => Math.round(value * 128) / 128),
    dims,
  );
}
const weight = coarse(2, [4, 6]);
const bias = coarse(3, [4]);
const [wValues, bValues] = [weight.data as Float32Array, bias.data as Float32Array];

async function run(weights: ReadonlyMap<string, Weight>): Promise<Float32Array> {
  const executable = await device.compile(withInputs({ outputs, weights }));
  try {
    return (await executable.run({ x: fed })).y!.data as Float32Array;
  } finally {
    await executable.dispose();
  }
}

const stored = (dims: readonly number[], ...parts: StoredPart[]): StoredTensor => ({ dims, parts });
const expected = await run(
  new Map([
    ['w', weight],
    ['b', bias],
  ]),
);

/** Runs with these weights, and expects the same bits as with those in memory. */
async function expectSame(w: Weight, b: Weight): Promise<void> {
  expect(
    await run(
      new Map([
        ['w', w],
        ['b', b],
      ]),
    ),
  ).toEqual(expected);
}

describe('weights in files give the same bits as in memory', () => {
  for (const type of ['float32', 'float16', 'bfloat16'] as const) {
    test(type, async () => {
      const [inW, inB] = write(join(folder, 'weights'), [
        { values: wValues, type },
        { values: bValues, type },
      ]);
      await expectSame(stored([4, 6], inW!), stored([4], inB!));
    });
  }

  test('some in a file and some in memory', async () => {
    const [inW] = write(join(folder, 'weights'), [{ values: wValues, type: 'float32' }]);
    await expectSame(stored([4, 6], inW!), bias);
  });

  test('in several parts, of several types, in any order in the file', async () => {
    const [last, first, middle, inB] = write(join(folder, 'weights'), [
      { values: wValues.subarray(18), type: 'float32' },
      { values: wValues.subarray(0, 6), type: 'bfloat16' },
      { values: wValues.subarray(6, 18), type: 'float16' },
      { values: bValues, type: 'float16' },
    ]);
    await expectSame(stored([4, 6], first!, middle!, last!), stored([4], inB!));
  });

  test('one tensor for two parameters', async () => {
    const v = input('v', 'float32', [4, 6]);
    const [inW] = write(join(folder, 'weights'), [{ values: wValues, type: 'float32' }]);
    const executable = await device.compile(
      withInputs({
        outputs: { sum: add(v, multiply(w, 2)) },
        weights: new Map([
          ['w', stored([4, 6], inW!)],
          ['v', stored([4, 6], inW!)],
        ]),
      }),
    );
    const { sum } = await executable.run({});
    expect(sum).toEqual(
      float32(
        wValues.map((value) => 3 * value),
        [4, 6],
      ),
    );
    await executable.dispose();
  });

  test('in files of two folders, as shards may be', async () => {
    const [inW] = write(join(folder, 'a', 'weights'), [{ values: wValues, type: 'float32' }]);
    const [inB] = write(join(folder, 'b', 'weights'), [{ values: bValues, type: 'float16' }]);
    await expectSame(stored([4, 6], inW!), stored([4], inB!));
  });

  test('behind links, as in the cache of a hub', async () => {
    const [inW, inB] = write(join(folder, 'blobs', 'abc'), [
      { values: wValues, type: 'bfloat16' },
      { values: bValues, type: 'float32' },
    ]);
    const snapshot = join(folder, 'snapshots', 'x');
    mkdirSync(snapshot, { recursive: true });
    const path = join(snapshot, 'model.safetensors');
    symlinkSync('../../blobs/abc', path);
    // The folder as well may be a link.
    symlinkSync('snapshots/x', join(folder, 'main'));
    await expectSame(stored([4, 6], { ...inW!, path }), stored([4], { ...inB!, path }));
    const through = join(folder, 'main', 'model.safetensors');
    await expectSame(stored([4, 6], { ...inW!, path: through }), stored([4], { ...inB!, path }));
  });

  test('with names that are not plain', async () => {
    const path = join(folder, 'größe #1 %41', 'the weights');
    const [inW] = write(path, [{ values: wValues, type: 'float32' }]);
    await expectSame(stored([4, 6], inW!), bias);
  });

  for (const before of [1, 2, 3, 5]) {
    test(`that begin at byte ${before}`, async () => {
      const [inW, inB] = write(
        join(folder, 'weights'),
        [
          { values: wValues, type: 'float32' },
          { values: bValues, type: 'float16' },
        ],
        before,
      );
      await expectSame(stored([4, 6], inW!), stored([4], inB!));
    });
  }

  test('a relative path', async () => {
    const [inW] = write(join(folder, 'weights'), [{ values: wValues, type: 'float32' }]);
    const path = join('..', '..', '..', '..', '..', '..', '..', '..', '..', folder, 'weights');
    await expectSame(stored([4, 6], { ...inW!, path }), bias);
  });
});

test('the values are those of the file: others give another result', async () => {
  const [inW] = write(join(folder, 'weights'), [{ values: wValues.map((v) => -v), type: 'float32' }]);
  const weights = new Map<string, Weight>([
    ['w', stored([4, 6], inW!)],
    ['b', bias],
  ]);
  expect(await run(weights)).not.toEqual(expected);
});

test('several programs share a file, and outlive its name', async () => {
  const path = join(folder, 'weights');
  const [inW] = write(path, [{ values: wValues, type: 'float32' }]);
  const weights = new Map<string, Weight>([
    ['w', stored([4, 6], inW!)],
    ['b', bias],
  ]);
  const programs = await Promise.all([1, 2, 3].map(() => device.compile(withInputs({ outputs, weights }))));
  rmSync(path);
  for (const program of programs) {
    expect((await program.run({ x: fed })).y!.data).toEqual(expected);
    await program.dispose();
  }
});

describe('loading', () => {
  const big = input('big', 'float32', [1 << 20]);
  const bigValues = new Float32Array(1 << 20).fill(0.5);

  test.runIf(process.platform === 'linux')('maps a file, and does not copy it', async () => {
    const path = join(folder, 'weights');
    const [part] = write(path, [{ values: bigValues, type: 'float32' }]);
    const more = input('more', 'float32', [1]);
    const executable = await device.compile(
      withInputs({
        outputs: { y: add(big, more) },
        weights: new Map([['big', stored([1 << 20], part!)]]),
      }),
    );
    expect(readFileSync('/proc/self/maps', 'utf8')).toContain(path);
    const { y } = await executable.run({ more: float32([0.25], [1]) });
    expect((y!.data as Float32Array).every((value) => value === 0.75)).toBe(true);
    await executable.dispose();
    expect(readFileSync('/proc/self/maps', 'utf8')).not.toContain(path);
  });

  test('writes nothing beside the weights, whether it succeeds or fails', async () => {
    const path = join(folder, 'weights');
    const [inW] = write(path, [{ values: wValues, type: 'float32' }]);
    const before = statSync(folder, { bigint: true }).mtimeNs;
    await expectSame(stored([4, 6], inW!), bias);
    await expect(
      device.compile(withInputs({ outputs, weights: new Map([['w', stored([6, 4], inW!)]]) })),
    ).rejects.toThrow(DeviceError);
    expect(readdirSync(folder)).toEqual(['weights']);
    expect(statSync(folder, { bigint: true }).mtimeNs).toBe(before);
  });

  test('takes no part in the size of the program', async () => {
    const [part] = write(join(folder, 'weights'), [{ values: bigValues, type: 'float32' }]);
    const executable = await device.compile(
      withInputs({
        outputs: { y: multiply(big, 2) },
        weights: new Map([['big', stored([1 << 20], part!)]]),
      }),
    );
    expect((executable as OrtExecutable).programBytes).toBeLessThan(1000);
    await executable.dispose();
  });
});

describe('what is refused', () => {
  const refusal = async (weight: Weight, words: string | RegExp): Promise<void> => {
    const attempt = device.compile(withInputs({ outputs, weights: new Map([['w', weight]]) }));
    await expect(attempt).rejects.toThrow(DeviceError);
    await expect(attempt).rejects.toThrow(words);
  };
  let path: string;
  let part: StoredPart;
  beforeEach(() => {
    path = join(folder, 'weights');
    part = write(path, [{ values: wValues, type: 'float32' }])[0]!;
  });

  test('a file that is not there', async () => {
    rmSync(path);
    await refusal(stored([4, 6], part), `${path} cannot be read: `);
  });

  test('a folder in its place', async () => {
    rmSync(path);
    mkdirSync(path);
    await refusal(stored([4, 6], part), path);
  });

  test('a link that leads nowhere', async () => {
    const link = join(folder, 'link');
    symlinkSync('none', link);
    await refusal(stored([4, 6], { ...part, path: link }), `${link} cannot be read: `);
  });

  for (const [name, length] of [
    ['a file that was cut off by a byte', BEFORE + 95],
    ['a file that ends before the weights begin', 100],
    ['an empty file', 0],
  ] as const) {
    test(name, async () => {
      truncateSync(path, length);
      const words = `${path} has ${length} bytes, but its weights go to byte ${BEFORE + 96}`;
      await refusal(stored([4, 6], part), words);
      // Also where it would have to be read.
      const odd = { ...part, byteOffset: part.byteOffset + 1, byteLength: 95 };
      await refusal(stored([4, 6], odd), /has \d+ bytes, but its weights go to byte/);
    });
  }

  test('another shape than the graph has', () =>
    refusal(stored([6, 4], part), "the weight 'w' is float32[4,6], but float32[6,4] was given"));

  test('parts that are more or less than the whole', async () => {
    const half = { ...part, byteLength: 48 };
    await refusal(
      stored([4, 6], half),
      "the weight 'w' has 12 elements in its files, but its shape [4,6] has 24",
    );
    await refusal(stored([4, 6], half, part), 'has 36 elements in its files');
    await refusal(stored([4, 6]), 'has 0 elements in its files');
    await refusal(stored([4, 6], { ...part, byteLength: 95 }), 'has 23.75 elements in its files');
    await refusal(stored([4, 6], { ...part, dtype: 'float16' }), 'has 48 elements in its files');
  });

  test('floating-point numbers for integers', async () => {
    const ids = input('ids', 'int64', [4, 6]);
    const attempt = device.compile(
      withInputs({
        outputs: { twice: multiply(ids, ids) },
        weights: new Map([['ids', stored([4, 6], part)]]),
      }),
    );
    await expect(attempt).rejects.toThrow("the weight 'ids' is int64[4,6], but float32[4,6] was given");
  });
});
