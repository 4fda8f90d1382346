/** What is the wasm executor's own: threads, builds, weights in few bits, and what happens where something gives out. */
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { DeviceError, DeviceLimitError } from '../../errors.js';
import {
  add,
  asMatrix,
  cast,
  cumulativeSum,
  experts,
  gather,
  gatherElements,
  input,
  matmul,
  max,
  multiply,
  reshape,
  rmsNorm,
  scatterElements,
  sum,
  type Tensor,
  transpose,
} from '../../graph/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { compilesByteProducts } from '../byte-products.js';
import type { DecoderPrograms, Program } from '../program.js';
import { float32, type HostTensor, int64, type QuantizedTensor, type Weight } from '../tensors.js';
import { WasmDevice } from './device.js';
import { SharedMemory } from './memory.js';
import { stepTimes } from './step-times.js';

const folder = await mkdtemp(join(tmpdir(), 'heddle-wasm-'));
afterAll(() => rm(folder, { recursive: true }));

/** Matrices of random codes and scales. */
function packed(dims: readonly number[], bits: 4 | 8, block: number): QuantizedTensor {
  const [rows, columns] = asMatrix(dims);
  const blocks = rows * Math.ceil(columns / block);
  const numbers = uniform(bits + block, [(blocks * block * bits) / 8], 0, 255).data as Float32Array;
  return {
    dims,
    bits,
    block,
    codes: Uint8Array.from(numbers),
    scales: uniform(7, [blocks], -0.1, 0.1).data as Float32Array,
  };
}

function product(rows: number, columns: number, weight: Weight): Program {
  const x = input('x', 'float32', ['tokens', columns]);
  const w = input('w', 'float32', [rows, columns]);
  return {
    inputs: [x],
    outputs: { y: matmul(x, w, { transposeB: true }) },
    weights: new Map([['w', weight]]),
  };
}

async function run(
  device: WasmDevice,
  program: Program,
  feeds: Record<string, HostTensor>,
): Promise<Float32Array> {
  const executable = await device.compile(program);
  const { y } = await executable.run(feeds);
  await executable.dispose();
  return y!.data as Float32Array;
}

/** The values that codes stand for. */
function values({ dims, bits, block, codes, scales }: QuantizedTensor): Float32Array {
  const [rows, columns] = asMatrix(dims);
  const blocks = Math.ceil(columns / block);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const at = row * blocks * block + column;
    const all = codes as Uint8Array;
    const code = bits === 8 ? all[at]! : (all[at >> 1]! >> (4 * (at & 1))) & 15;
    return (scales as Float32Array)[row * blocks + Math.floor(column / block)]! * (code - 2 ** (bits - 1));
  });
}

const shapes = [
  [4, 32, 96],
  [4, 64, 128],
  [4, 128, 256],
  [4, 128, 200],
  [8, 32, 64],
  [8, 128, 300],
] as const;

describe.each(shapes)(
  'a product with a matrix of %i bits in blocks of %i, %i columns',
  (bits, block, columns) => {
    const ROWS = 37;
    const weight = packed([ROWS, columns], bits, block);
    const program = product(ROWS, columns, weight);
    const x = (tokens: number): HostTensor => uniform(3, [tokens, columns]);

    test('is near the product with the numbers that the codes stand for', async () => {
      const device = new WasmDevice({ threads: 2 });
      const w = values(weight);
      const given = x(6);
      const expected = Float32Array.from({ length: 6 * ROWS }, (_, i) => {
        let sum = 0;
        for (let k = 0; k < columns; k++) {
          sum += (given.data[Math.floor(i / ROWS) * columns + k] as number) * w[(i % ROWS) * columns + k]!;
        }
        return sum;
      });
      expect(relativeError(await run(device, program, { x: given }), expected)).toBeLessThan(0.01);
      await device.dispose();
    });

    test('has the same bits in all builds, by any number of threads, and beside any other rows', async () => {
      const devices = [
        new WasmDevice({ threads: 1, simd: 'plain' }),
        new WasmDevice({ threads: 1, simd: 'relaxed' }),
        new WasmDevice({ threads: 3, simd: 'relaxed' }),
        ...(compilesByteProducts ? [new WasmDevice({ threads: 2, simd: 'dot' })] : []),
      ];
      const all = await Promise.all(devices.map((device) => run(device, program, { x: x(7) })));
      for (const bits of all) expect(bits).toEqual(all[0]);
      for (let token = 0; token < 7; token++) {
        const row = float32((x(7).data as Float32Array).slice(token * columns, (token + 1) * columns), [
          1,
          columns,
        ]);
        const alone = await run(devices[token % devices.length]!, program, { x: row });
        expect(alone).toEqual(all[0]!.slice(token * ROWS, (token + 1) * ROWS));
      }
      await Promise.all(devices.map((device) => device.dispose()));
    });
  },
);

describe.each([
  ['swiglu', 4, 32, 8, 128],
  ['relu2', 8, 32, 4, 64],
] as const)('experts by %s, up in %i bits in blocks of %i, down in %i of %i', (...forms) => {
  const [activation, upBits, upBlock, downBits, downBlock] = forms;
  const [COUNT, HIDDEN, INNER, TOKENS] = [5, 96, 37, 7];
  const up = packed([COUNT, activation === 'swiglu' ? 2 * INNER : INNER, HIDDEN], upBits, upBlock);
  const down = packed([COUNT, HIDDEN, INNER], downBits, downBlock);
  // The expert 2 is nobody's: whoever read its numbers would compute with these.
  for (const scales of [up.scales, down.scales] as Float32Array[]) {
    scales.fill(Number.NaN, (2 / COUNT) * scales.length, (3 / COUNT) * scales.length);
  }
  const chosen = [[4, 0], [3], [1, 4], [0, 3], [], [1, 0], [4, 3]];
  const shares = float32(
    chosen.flatMap((own) => Array.from({ length: COUNT }, (_, e) => (own.includes(e) ? 1 / (e + 2) : 0))),
    [TOKENS, COUNT],
  );
  const x = uniform(4, [TOKENS, HIDDEN]);
  const nodes = {
    x: input('x', 'float32', ['tokens', HIDDEN]),
    weights: input('weights', 'float32', ['tokens', COUNT]),
    up: input('up', 'float32', up.dims),
    down: input('down', 'float32', down.dims),
  };
  const program: Program = {
    inputs: [nodes.x, nodes.weights],
    outputs: { y: experts(nodes, { activation, perToken: 2 }) },
    weights: new Map([
      ['up', up],
      ['down', down],
    ]),
  };

  const row = ({ data }: HostTensor, size: number, t: number): HostTensor =>
    float32((data as Float32Array).slice(t * size, (t + 1) * size), [1, size]);

  test('what each token chose, in the same bits alone, by all builds and threads', async () => {
    const devices = [
      new WasmDevice({ threads: 1, simd: 'plain' }),
      new WasmDevice({ threads: 3, simd: 'relaxed' }),
      ...(compilesByteProducts ? [new WasmDevice({ threads: 2, simd: 'dot' })] : []),
    ];
    const all = await Promise.all(devices.map((device) => run(device, program, { x, weights: shares })));
    const plain = new Map(
      [up, down].map((each, i) => [['up', 'down'][i]!, float32(values(each), each.dims)]),
    );
    const expected = await run(devices[0]!, { ...program, weights: plain }, { x, weights: shares });
    expect(relativeError(all[0]!, expected)).toBeLessThan(0.02);
    for (const bits of all) expect(bits).toEqual(all[0]);
    for (let t = 0; t < TOKENS; t++) {
      const feeds = { x: row(x, HIDDEN, t), weights: row(shares, COUNT, t) };
      const alone = await run(devices[t % devices.length]!, program, feeds);
      expect(alone).toEqual(all[0]!.slice(t * HIDDEN, (t + 1) * HIDDEN));
    }
    await Promise.all(devices.map((device) => device.dispose()));
  });

  test('the schedule of a token reads two experts of five', async () => {
    const device = new WasmDevice({ threads: 1 });
    const feeds = { x: row(x, HIDDEN, 0), weights: row(shares, COUNT, 0) };
    const steps = await stepTimes(program, feeds, device, { rows: 0, length: 0, rounds: 1 });
    const bytes = ({ codes, scales }: QuantizedTensor): number =>
      (codes as Uint8Array).byteLength + (scales as Float32Array).byteLength;
    expect(steps.reduce((sum, { weightBytes }) => sum + weightBytes, 0)).toBe(
      (2 / 5) * (bytes(up) + bytes(down)),
    );
    await device.dispose();
  });
});

describe('bfloat16', () => {
  const device = new WasmDevice({ threads: 2 });
  const [rows, columns] = [19, 45];
  const halves = Uint16Array.from(uniform(5, [rows * columns], 0x3c00, 0x3f80).data, Number);
  const file = join(folder, 'halves.bin');
  const stored: Weight = {
    dims: [rows, columns],
    parts: [{ path: file, byteOffset: 0, byteLength: halves.byteLength, dtype: 'bfloat16' }],
  };
  const wide = float32(new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer), [
    rows,
    columns,
  ]);

  test('is read from its file, and computes what float32 does', async () => {
    await writeFile(file, halves);
    const x = uniform(2, [3, columns]);
    const expected = await run(device, product(rows, columns, wide), { x });
    expect(relativeError(await run(device, product(rows, columns, stored), { x }), expected)).toBeLessThan(
      1e-6,
    );
  });

  test('is widened where it is a table, or added', async () => {
    const table = input('w', 'float32', [rows, columns]);
    const ids = input('ids', 'int64', ['n']);
    const program = (y: Tensor, weight: Weight): Program => ({
      inputs: [ids],
      outputs: { y },
      weights: new Map([['w', weight]]),
    });
    const feeds = { ids: int64([3, 18, 0], [3]) };
    for (const y of [gather(table, ids), add(table, gather(table, ids).shape.length)]) {
      expect(await run(device, program(y, stored), feeds)).toEqual(
        await run(device, program(y, wide), feeds),
      );
    }
  });

  test('in a file that was cut off is refused, and leaves nothing behind', async () => {
    const taken = device.memory.taken;
    await truncate(file, 100);
    await expect(device.compile(product(rows, columns, stored))).rejects.toThrow(
      /has 100 bytes, but its weights go to byte/,
    );
    expect(device.memory.taken).toBe(taken);
  });
});

test('an index outside of a table is an error, and the device goes on', async () => {
  const device = new WasmDevice({ threads: 2 });
  const table = input('w', 'float32', [4, 2]);
  const ids = input('ids', 'int64', [1]);
  const weights = new Map([['w', uniform(1, [4, 2])]]);
  const executable = await device.compile({ inputs: [ids], outputs: { y: gather(table, ids) }, weights });
  await expect(executable.run({ ids: int64([4], [1]) })).rejects.toThrow(DeviceError);
  expect((await executable.run({ ids: int64([3], [1]) })).y!.data).toEqual(
    (weights.get('w')!.data as Float32Array).slice(6),
  );
  await device.dispose();
});

test('a thread that dies in the middle of a run leaves the states as they were, and another takes its place', async () => {
  const device = new WasmDevice({ threads: 2 });
  const total = input('total', 'float32', ['batch', 64]);
  const x = input('x', 'float32', [64]);
  const after = add(total, x);
  const executable = await device.compile({
    inputs: [x],
    outputs: { y: after },
    state: [
      { spec: { name: 'total', dtype: 'float32', shape: ['batch', 64], initial: 0 }, before: total, after },
    ],
  });
  const state = executable.newState();
  const one = { x: float32(new Float32Array(64).fill(1), [64]) };
  await executable.run(one, [state]);
  const [worker] = device.threads.running;
  // The run begins before anybody hears of its end.
  const ending = worker!.terminate();
  await expect(executable.run(one, [state])).rejects.toThrow(/a thread of the wasm device died/);
  await ending;
  expect((await state.read()).get('total')!.data[0]).toBe(1);
  await executable.run(one, [state]);
  expect((await state.read()).get('total')!.data[0]).toBe(2);
  await device.dispose();
});

test('programs that are compiled at the same time share weights, which each has until it is disposed of', async () => {
  const device = new WasmDevice({ threads: 1 });
  const { taken } = device.memory;
  const x = uniform(3, [2, 24]);
  const program = product(9, 24, uniform(1, [9, 24]));
  const [one, other] = await Promise.all([device.compile(program), device.compile(program)]);
  expect(device.memory.taken - taken).toBe(14 * 64);
  await one.dispose();
  const { y } = await other.run({ x });
  // What is freed is others', who write there.
  device.memory.bytes.fill(255, device.memory.allocate(4 * 9 * 24), device.memory.allocate(4 * 9 * 24));
  expect((await other.run({ x })).y).toEqual(y);
  const fails = product(9, 24, {
    dims: [9, 24],
    parts: [{ path: 'none', byteOffset: 0, byteLength: 864, dtype: 'float32' }],
  });
  await Promise.all(
    [fails, fails].map((each) => expect(device.compile(each)).rejects.toThrow('none cannot be read')),
  );
  await device.dispose();
});

test('a decoder of which one program cannot be compiled leaves nothing of the other', async () => {
  const device = new WasmDevice({ threads: 1 });
  const { taken } = device.memory;
  const read = product(9, 24, uniform(1, [9, 24]));
  const write = { ...read, weights: new Map() };
  const programs = { read, write } as unknown as DecoderPrograms;
  await expect(device.compileDecoder(programs)).rejects.toThrow("the program depends on 'w'");
  expect(device.memory.taken).toBe(taken);
  await device.dispose();
});

test('a norm of parts of a row is not one of the whole row, whatever is multiplied with it', async () => {
  const [HEADS, SIZE, TOKENS] = [4, 32, 3];
  const x = input('x', 'float32', [1, TOKENS, HEADS, SIZE]);
  const scale = input('scale', 'float32', [SIZE]);
  const weight = packed([24, HEADS * SIZE], 8, 32);
  const w = input('w', 'float32', weight.dims);
  const normed = reshape(rmsNorm(x, scale, 1e-5), [1, TOKENS, HEADS * SIZE]);
  const program = (given: Weight): Program => ({
    inputs: [x, scale],
    outputs: { y: matmul(normed, w, { transposeB: true }) },
    weights: new Map([['w', given]]),
  });
  const device = new WasmDevice({ threads: 1 });
  const feeds = { x: uniform(2, [1, TOKENS, HEADS, SIZE], -3, 3), scale: uniform(3, [SIZE], 0.5, 2) };
  const expected = await run(device, program(float32(values(weight), weight.dims)), feeds);
  expect(relativeError(await run(device, program(weight), feeds), expected)).toBeLessThan(0.01);
  await device.dispose();
});

describe.each(['int8', 'uint8', 'float16', 'bfloat16', 'int32', 'int64'] as const)(
  'elements of %s',
  (dtype) => {
    test('are picked, added, summed and compared in their own width', async () => {
      const device = new WasmDevice({ threads: 1 });
      const x = input('x', 'float32', [2, 5]);
      const places = input('places', 'int64', [2, 5]);
      const own = cast(x, dtype);
      const picked = gatherElements(own, places, 1);
      const results = {
        picked,
        added: scatterElements(own, places, picked, 1),
        sums: sum(own, 1),
        largest: max(own, 1),
        running: cumulativeSum(own, 1),
      };
      const outputs = Object.fromEntries(
        Object.entries(results).map(([name, y]) => [name, cast(y, 'float32')]),
      );
      const executable = await device.compile({ inputs: [x, places], outputs });
      const said = await executable.run({
        x: float32([1, 7, 3, 2, 9, 4, 0, 6, 5, 8], [2, 5]),
        places: int64([4, 4, 0, 1, 2, 3, 0, 1, 2, 4], [2, 5]),
      });
      expect(Object.fromEntries(Object.entries(said).map(([name, { data }]) => [name, [...data]]))).toEqual({
        picked: [9, 9, 1, 7, 3, 5, 4, 0, 6, 8],
        added: [2, 14, 6, 2, 27, 8, 0, 12, 10, 16],
        sums: [22, 23],
        largest: [9, 8],
        running: [1, 8, 11, 13, 22, 4, 4, 10, 15, 23],
      });
      await device.dispose();
    });
  },
);

test('times of steps that cannot be taken leave the states and the memory as they were', async () => {
  const device = new WasmDevice({ threads: 1 });
  const total = input('total', 'float32', ['batch', 8]);
  const after = add(total, 1);
  const spec = { name: 'total', dtype: 'float32', shape: ['batch', 8], initial: 0 } as const;
  const executable = await device.compile({
    inputs: [],
    outputs: {},
    state: [{ spec, before: total, after }],
  });
  const state = executable.newState();
  await executable.run({}, [state]);
  const { taken } = device.memory;
  const begun = device.threads.run.bind(device.threads);
  const running = vi.spyOn(device.threads, 'run');
  running.mockImplementationOnce(begun).mockRejectedValueOnce(new Error('a thread died'));
  await expect(executable.profile({}, [state], 1)).rejects.toThrow('a thread died');
  expect(device.memory.taken).toBe(taken);
  expect((await state.read()).get('total')!.data[0]).toBe(2);
  running.mockRestore();
  await device.dispose();
});

describe('memory', () => {
  test('that nobody holds any more is given out again, joined with what is beside it', () => {
    const memory = new SharedMemory();
    const blocks = Array.from({ length: 10 }, (_, i) => memory.allocate(1000 * (i + 1)));
    expect(new Set(blocks).size).toBe(10);
    for (const i of [3, 1, 2]) memory.release(blocks[i]!);
    expect(memory.allocate(9000)).toBe(blocks[1]);
    for (const block of blocks) memory.release(block);
  });

  test('for weights beyond 4 GiB is not even begun to be filled', async () => {
    const file = join(folder, 'vast.bin');
    await writeFile(file, '');
    await truncate(file, 5e9);
    const device = new WasmDevice({ threads: 1 });
    const { taken } = device.memory;
    const dims = [1250, 1e6];
    const weight: Weight = {
      dims,
      parts: [{ path: file, byteOffset: 0, byteLength: 5e9, dtype: 'float32' }],
    };
    const attempt = device.compile(product(dims[0]!, dims[1]!, weight));
    await expect(attempt).rejects.toThrow(DeviceLimitError);
    await expect(attempt).rejects.toThrow(/needs 5,000 MB more, of at most 4,295 MB/);
    expect(device.memory.taken).toBe(taken);
    expect(device.memory.bytes.length).toBeLessThan(1e8);
    await device.dispose();
  });

  test('beyond 4 GiB is refused in words, and what there is stays', () => {
    const memory = new SharedMemory();
    const block = memory.allocate(100);
    const { taken } = memory;
    expect(() => memory.allocate(5e9)).toThrow(DeviceLimitError);
    expect(() => memory.allocate(5e9)).toThrow(/out of memory: it has .* of at most 4,295 MB/);
    expect(memory.taken).toBe(taken);
    memory.release(block);
  });
});

describe('operators of training', () => {
  const x = uniform(5, [41, 3, 67]);
  const [data, at] = [x.data as Float32Array, (i: number, j: number, k: number) => (i * 3 + j) * 67 + k];

  async function compute(
    output: (x: Tensor) => Tensor,
    dims: readonly number[] = x.dims,
  ): Promise<Float32Array> {
    const device = new WasmDevice({ threads: 2 });
    const given = input('x', 'float32', dims);
    const y = await run(device, { inputs: [given], outputs: { y: output(given) } }, { x: { ...x, dims } });
    await device.dispose();
    return y;
  }

  test('an element-wise step over short axes that lie apart, with whole numbers in between', async () => {
    const found = await compute((given) => {
      const turned = transpose(given, [2, 1, 0]);
      const whole = cast(multiply(turned, 100), 'int64');
      return add(multiply(turned, turned), cast(add(whole, whole), 'float32'));
    });
    const wanted = Array.from({ length: found.length }, (_, e) => {
      const value = data[at(e % 41, Math.floor(e / 41) % 3, Math.floor(e / 123))]!;
      return Math.fround(Math.fround(value * value) + 2 * Math.trunc(Math.fround(value * 100)));
    });
    expect(Array.from(found)).toEqual(wanted.map((value) => (Object.is(value, -0) ? 0 : value)));
  });

  test('sums that lie side by side have the bits of each by itself', async () => {
    const found = await compute((given) => sum(given, [0, 1]));
    const wanted = Array.from({ length: 67 }, (_, k) => {
      let total = 0;
      for (let i = 0; i < 41; i++) for (let j = 0; j < 3; j++) total += data[at(i, j, k)]!;
      return Math.fround(total);
    });
    expect(Array.from(found)).toEqual(wanted);
  });

  test('a column of a product has the bits that it has alone, and beside others, however many rows there are', async () => {
    const dims = [123, 67];
    const weights = uniform(6, [67, 20]);
    const columns = async (count: number, rows: number): Promise<number[]> => {
      const device = new WasmDevice({ threads: 2 });
      const [a, b] = [input('x', 'float32', [rows, 67]), input('b', 'float32', [67, count])];
      const of = (from: Float32Array, size: number, each: (i: number) => number) =>
        float32(
          Float32Array.from({ length: size }, (_, i) => from[each(i)]!),
          size === rows * 67 ? [rows, 67] : [67, count],
        );
      const feeds = {
        x: of(data, rows * 67, (i) => i),
        b: of(weights.data as Float32Array, 67 * count, (i) => Math.floor(i / count) * 20 + (i % count)),
      };
      const y = await run(device, { inputs: [a, b], outputs: { y: matmul(a, b) } }, feeds);
      await device.dispose();
      return Array.from({ length: rows }, (_, i) => y[i * count]!);
    };
    const whole = await columns(20, dims[0]!);
    expect(await columns(1, dims[0]!)).toEqual(whole);
    expect(await columns(16, 7)).toEqual(whole.slice(0, 7));
  });
});
