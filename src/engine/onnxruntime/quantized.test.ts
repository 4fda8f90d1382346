/** Quantized constants: a product and a table of rows are what the numbers say that the codes stand for. */

import { mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { DeviceError } from '../../errors.js';
import { gather, input, matmul } from '../../graph/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { type Executable, float32, int64, openDevice, type QuantizedTensor } from '../index.js';
import { withInputs } from '../testing/with-inputs.js';
import { integersOf } from './integers.js';

const device = await openDevice('cpu', { threads: 1 });
const ROWS = 40;

function matrix(columns: number, bits: 4 | 8, block: number) {
  const blocks = Math.ceil(columns / block);
  const codes = Uint8Array.from(
    { length: (ROWS * blocks * block * bits) / 8 },
    (_, i) => (i * 151 + 7) & 255,
  );
  const scales = Float32Array.from({ length: ROWS * blocks }, (_, i) => 0.01 + 0.002 * (i % 5));
  const tensor: QuantizedTensor = { dims: [ROWS, columns], bits, block, codes, scales };
  const valueAt = (row: number, column: number): number => {
    const at = row * blocks * block + column;
    const code = bits === 8 ? codes[at]! : at % 2 === 1 ? codes[at >> 1]! >> 4 : codes[at >> 1]! & 15;
    return scales[row * blocks + Math.floor(column / block)]! * (code - 2 ** (bits - 1));
  };
  return { tensor, valueAt };
}

for (const bits of [4, 8] as const) {
  for (const block of [32, 64, 128]) {
    test.each([256, 144])(`a product, ${bits} bits in blocks of ${block}, %i columns`, async (columns) => {
      const { tensor, valueAt } = matrix(columns, bits, block);
      const w = input('w', 'float32', [ROWS, columns]);
      const x = uniform(3, [2, 3, columns], -1, 1);
      const executable = await device.compile(
        withInputs({
          outputs: {
            y: matmul(input('x', 'float32', ['batch', 'sequence', columns]), w, { transposeB: true }),
          },
          weights: new Map([['w', tensor]]),
        }),
      );
      const { y } = await executable.run({ x });
      const expected = Float32Array.from({ length: 6 * ROWS }, (_, i) => {
        let sum = 0;
        for (let c = 0; c < columns; c++) {
          sum += (x.data[Math.floor(i / ROWS) * columns + c] as number) * valueAt(i % ROWS, c);
        }
        return sum;
      });
      expect(y!.dims).toEqual([2, 3, ROWS]);
      // The kernel rounds x to 8 bits.
      expect(relativeError(y!.data as Float32Array, expected)).toBeLessThan(0.01);
      await executable.dispose();
    });

    test.each([256, 144])(
      `a gradient's product x W, ${bits} bits in blocks of ${block}, %i columns`,
      async (columns) => {
        const { tensor, valueAt } = matrix(columns, bits, block);
        const w = input('w', 'float32', [ROWS, columns]);
        const x = uniform(3, [2, 3, ROWS], -1, 1);
        const executable = await device.compile(
          withInputs({
            outputs: { y: matmul(input('x', 'float32', ['batch', 'sequence', ROWS]), w) },
            weights: new Map([['w', tensor]]),
          }),
        );
        const { y } = await executable.run({ x });
        const expected = Float32Array.from({ length: 6 * columns }, (_, i) => {
          let sum = 0;
          for (let row = 0; row < ROWS; row++) {
            sum += (x.data[Math.floor(i / columns) * ROWS + row] as number) * valueAt(row, i % columns);
          }
          return sum;
        });
        expect(y!.dims).toEqual([2, 3, columns]);
        expect(relativeError(y!.data as Float32Array, expected)).toBeLessThan(1e-5);
        await executable.dispose();
      },
    );

    test(`a table of rows, ${bits} bits in blocks of ${block}`, async () => {
      const { tensor, valueAt } = matrix(256, bits, block);
      const w = input('w', 'float32', [ROWS, 256]);
      const executable = await device.compile(
        withInputs({
          outputs: { rows: gather(w, input('ids', 'int64', ['n'])) },
          weights: new Map([['w', tensor]]),
        }),
      );
      const { rows } = await executable.run({ ids: int64([0, 39, 7], [3]) });
      const expected = [0, 39, 7].flatMap((row) => Array.from({ length: 256 }, (_, c) => valueAt(row, c)));
      expect(relativeError(rows!.data as Float32Array, Float32Array.from(expected))).toBeLessThan(1e-6);
      await executable.dispose();
    });
  }
}

test.each(['cpu', 'wasm'] as const)('products with each of several matrices (%s)', async (kind) => {
  const { tensor, valueAt } = matrix(64, 4, 32);
  const several = { ...tensor, dims: [4, ROWS / 4, 64] };
  const own = kind === 'cpu' ? device : await openDevice(kind, { threads: 1 });
  const w = input('w', 'float32', several.dims);
  for (const [dims, places] of [
    // One x for all of them, and an x for each.
    [
      [3, 64],
      [0, 0, 0, 0],
    ],
    [
      [4, 3, 64],
      [0, 1, 2, 3],
    ],
  ] as const) {
    const x = uniform(3, [...dims], -1, 1);
    const y = matmul(input('x', 'float32', [...dims]), w, { transposeB: true });
    const executable = await own.compile(withInputs({ outputs: { y }, weights: new Map([['w', several]]) }));
    const found = (await executable.run({ x })).y!;
    expect(found.dims).toEqual([4, 3, ROWS / 4]);
    const expected = Float32Array.from({ length: 12 * (ROWS / 4) }, (_, i) => {
      const [which, token, row] = [Math.floor(i / 30), Math.floor(i / 10) % 3, i % 10];
      let sum = 0;
      for (let c = 0; c < 64; c++) {
        sum += (x.data[(places[which]! * 3 + token) * 64 + c] as number) * valueAt(which * 10 + row, c);
      }
      return sum;
    });
    expect(relativeError(found.data as Float32Array, expected)).toBeLessThan(0.01);
    await executable.dispose();
  }
  const x = uniform(4, [4, 3, ROWS / 4], -1, 1);
  const y = matmul(input('x', 'float32', [4, 3, ROWS / 4]), w);
  const executable = await own.compile(withInputs({ outputs: { y }, weights: new Map([['w', several]]) }));
  const expected = Float32Array.from({ length: 12 * 64 }, (_, i) => {
    const [which, row, column] = [Math.floor(i / 192), Math.floor(i / 64), i % 64];
    let sum = 0;
    for (let k = 0; k < 10; k++) sum += (x.data[row * 10 + k] as number) * valueAt(which * 10 + k, column);
    return sum;
  });
  expect(relativeError((await executable.run({ x })).y!.data as Float32Array, expected)).toBeLessThan(0.01);
  await executable.dispose();
  if (kind === 'wasm') await own.dispose();
});

test('one token and many make the same product, up to the rounding of x', async () => {
  const { tensor } = matrix(256, 4, 32);
  const w = input('w', 'float32', [ROWS, 256]);
  const x = uniform(3, [6, 256], -1, 1);
  const product = async (dims: readonly (number | string)[], fed: readonly number[]) => {
    const executable = await device.compile(
      withInputs({
        outputs: { y: matmul(input('x', 'float32', dims), w, { transposeB: true }) },
        weights: new Map([['w', tensor]]),
      }),
    );
    const { y } = await executable.run({ x: { ...x, dims: fed } });
    await executable.dispose();
    return y!.data as Float32Array;
  };
  const many = await product(['batch', 'sequence', 256], [1, 6, 256]);
  const single = await product(['batch', 1, 256], [6, 1, 256]);
  expect(relativeError(many, single)).toBeLessThan(0.01);
  // Each row has its own scale, so what stands beside it makes no difference.
  const row = x.data.slice(0, 256) as Float32Array;
  const data = x.data as Float32Array;
  data.fill(1e6, 256);
  const first = await product(['batch', 'sequence', 256], [1, 6, 256]);
  expect(first.slice(0, ROWS)).toEqual(many.slice(0, ROWS));
  data.set(row, 5 * 256);
  const last = await product(['batch', 'sequence', 256], [1, 6, 256]);
  expect(last.slice(5 * ROWS)).toEqual(many.slice(0, ROWS));
});

test('integers are off by half a step of their row at most', () => {
  for (const block of [32, 64, 128] as const) {
    const { tensor, valueAt } = matrix(256, 4, block);
    const codes = tensor.codes as Uint8Array;
    const scales = (tensor.scales as Float32Array).slice();
    // One row of zeros.
    scales.fill(0, 0, 256 / block);
    const { values, scales: rowScales } = integersOf(codes, scales, [ROWS, 256], block);
    for (let row = 0; row < ROWS; row++) {
      for (let column = 0; column < 256; column++) {
        const exact = row === 0 ? 0 : valueAt(row, column);
        const found = values[column * ROWS + row]! * rowScales[row]!;
        expect(Math.abs(found - exact)).toBeLessThanOrEqual(rowScales[row]! * 0.5001);
      }
    }
  }
});

test('the largest integers do not saturate', async () => {
  // All codes are 15: 7 * scale, and with them pairs of uint8 * int8 are the largest that there are.
  const codes = new Uint8Array((ROWS * 256) / 2).fill(0xff);
  const scales = new Float32Array(ROWS * 8).fill(0.01);
  const executable = await device.compile(
    withInputs({
      outputs: {
        y: matmul(input('x', 'float32', ['batch', 'sequence', 256]), input('w', 'float32', [ROWS, 256]), {
          transposeB: true,
        }),
      },
      weights: new Map([['w', { dims: [ROWS, 256], bits: 4, block: 32, codes, scales } as QuantizedTensor]]),
    }),
  );
  const { y } = await executable.run({ x: float32(new Float32Array(4 * 256).fill(1), [1, 4, 256]) });
  for (const value of y!.data) expect(value).toBeCloseTo(256 * 0.07, 1);
  await executable.dispose();
});

test('five of eight matrices get integers, whichever they are', async () => {
  const stacked = async (count: number) => {
    const names = Array.from({ length: count }, (_, i) => `w${i}`);
    const x = input('x', 'float32', ['batch', 'sequence', 256]);
    const executable = await device.compile(
      withInputs({
        outputs: Object.fromEntries(
          names.map((name) => [
            `of ${name}`,
            matmul(x, input(name, 'float32', [ROWS, 256]), { transposeB: true }),
          ]),
        ),
        weights: new Map(names.map((name) => [name, matrix(256, 4, 32).tensor])),
      }),
    );
    const results = await executable.run({ x: uniform(5, [1, 4, 256], -1, 1) });
    await executable.dispose();
    return names.map((name) => Array.from(results[`of ${name}`]!.data as Float32Array));
  };
  const [integer] = await stacked(1);
  const all = await stacked(8);
  const coded = all[2]!;
  expect(coded).not.toEqual(integer);
  expect(all).toEqual([1, 1, 0, 1, 1, 0, 1, 0].map((has) => (has ? integer : coded)));
});

describe('the file of integers', () => {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'heddle-integers-'));
  const path = join(folder, 'weights');
  const temporary = join(folder, 'temporary');
  const { tensor } = matrix(256, 4, 32);
  const codes = tensor.codes as Uint8Array;
  writeFileSync(path, codes);
  const stored: QuantizedTensor = {
    ...tensor,
    codes: { path, byteOffset: 0, byteLength: codes.byteLength, dtype: 'uint8' },
  };
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(temporary, { recursive: true, force: true });
  });
  const compile = (weight: QuantizedTensor): Promise<Executable> =>
    device.compile(
      withInputs({
        outputs: {
          y: matmul(input('x', 'float32', ['batch', 'sequence', 256]), input('w', 'float32', [ROWS, 256]), {
            transposeB: true,
          }),
        },
        weights: new Map([['w', weight]]),
      }),
    );

  test('is gone when the program is compiled, which computes the same as with weights in memory', async () => {
    vi.stubEnv('TMPDIR', folder);
    const [one, two] = [await compile(stored), await compile(tensor)];
    expect(readdirSync(folder)).toEqual(['weights']);
    const x = uniform(5, [1, 4, 256], -1, 1);
    expect((await one.run({ x })).y!.data).toEqual((await two.run({ x })).y!.data);
    await one.dispose();
    await two.dispose();
  });

  test('needs a folder', async () => {
    vi.stubEnv('TMPDIR', temporary);
    await expect(compile(stored)).rejects.toThrow(DeviceError);
    await expect(compile(stored)).rejects.toThrow(/temporary cannot be read/);
    // What needs no such file is not held up.
    const wide = matrix(256, 8, 32).tensor;
    const bytes = wide.codes as Uint8Array;
    const file = join(folder, 'wide');
    writeFileSync(file, bytes);
    const part = { path: file, byteOffset: 0, byteLength: bytes.byteLength, dtype: 'uint8' } as const;
    await (await compile({ ...wide, codes: part })).dispose();
    rmSync(file);
    const executable = await compile(tensor);
    await executable.run({ x: float32(new Float32Array(256), [1, 1, 256]) });
    await executable.dispose();
  });

  test('is not made where the disk is full: the 4 bits are multiplied instead', async ({ skip }) => {
    if (process.platform !== 'linux') return skip('there is no folder without space');
    vi.stubEnv('TMPDIR', folder);
    const plenty = await compile(stored);
    vi.stubEnv('TMPDIR', '/proc/self');
    const none = await compile(stored);
    const x = uniform(5, [1, 4, 256], -1, 1);
    const [one, other] = [(await plenty.run({ x })).y!.data, (await none.run({ x })).y!.data];
    expect(other).not.toEqual(one);
    expect(relativeError(other as Float32Array, one as Float32Array)).toBeLessThan(0.01);
    await plenty.dispose();
    await none.dispose();
  });
});
