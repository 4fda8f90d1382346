/** What programs may be fed, and what is said of everything else. */

import { describe, expect, test } from 'vitest';
import { DeviceError } from '../errors.js';
import { add, input, matmul, type Tensor, zeros } from '../graph/index.js';
import {
  type DeviceName,
  float32,
  type HostTensor,
  hostZeros,
  int64,
  openDevice,
  type Program,
} from './index.js';
import { withInputs } from './testing/with-inputs.js';

const device = await openDevice('cpu', { threads: 1 });

const x = input('x', 'float32', ['batch', 2]);
const y = input('y', 'float32', ['batch', 2]);
const w = input('w', 'float32', [2, 3]);
const n = input('n', 'int64', ['batch']);

/** A `DeviceError` with these words. */
async function refuses(attempt: Promise<unknown>, words: string): Promise<void> {
  await expect(attempt).rejects.toThrow(DeviceError);
  await expect(attempt).rejects.toThrow(words);
}

const sum: Program = { inputs: [x, y], outputs: { sum: add(x, y) } };
const a = float32([1, 2, 3, 4], [2, 2]);

test.each(['cpu', 'wasm'] as const)(
  'a program on %s that is disposed of does what was asked of it before, and nothing afterwards',
  async (name) => {
    const own = await openDevice(name, { threads: 1 });
    const executable = await own.compile(sum);
    const run = executable.run({ x: a, y: a });
    await executable.dispose();
    expect(await run).toEqual({ sum: float32([2, 4, 6, 8], [2, 2]) });
    await refuses(executable.run({ x: a, y: a }), 'this program was disposed of');
    await executable.dispose();
    await own.dispose();
  },
);

describe('feeds', () => {
  const run = async (feeds: Readonly<Record<string, HostTensor>>, program = sum): Promise<unknown> => {
    const executable = await device.compile(program);
    try {
      return await executable.run(feeds);
    } finally {
      await executable.dispose();
    }
  };

  test('that fit give outputs', async () => {
    expect(await run({ x: a, y: a })).toEqual({ sum: float32([2, 4, 6, 8], [2, 2]) });
  });

  test('may not be missing', () => refuses(run({ x: a }), "the input 'y' was not fed"));

  test('may not be unknown', () => refuses(run({ x: a, y: a, z: a }), "the program has no input 'z'"));

  test('have the declared dtype', async () => {
    const fed = "the input 'y' is float32[batch,2], but int64[2,2] was given";
    await refuses(run({ x: a, y: int64([1, 2, 3, 4], [2, 2]) }), fed);
    const data = Int32Array.of(1, 2, 3, 4);
    const mislabelled = { dtype: 'float32', dims: [2, 2], data } as const;
    await refuses(
      run({ x: a, y: mislabelled }),
      "the input 'y' is float32, whose data is a Float32Array, not a Int32Array",
    );
  });

  test('have the declared shape', async () => {
    await refuses(
      run({ x: a, y: float32([1, 2, 3, 4], [4]) }),
      "the input 'y' is float32[batch,2], but float32[4] was given",
    );
    await refuses(
      run({ x: a, y: float32([1, 2, 3, 4, 5, 6], [2, 3]) }),
      "the input 'y' is float32[batch,2], but float32[2,3] was given",
    );
    await refuses(
      run({ x: a, y: a }, { ...sum, dims: { batch: 3 } }),
      "the input 'x' is float32[3,2], but float32[2,2] was given",
    );
  });

  test('are of inputs that the program declares, all of them', async () => {
    await refuses(
      device.compile({ inputs: [x], outputs: { sum: add(x, y) } }),
      "the program uses an input 'y' that it does not declare",
    );
    const sized = { inputs: [x, n], outputs: { twice: add(x, x) } };
    await refuses(run({ x: a }, sized), "the input 'n' was not fed");
    expect(await run({ x: a, n: int64([1, 2], [2]) }, sized)).toEqual({
      twice: float32([2, 4, 6, 8], [2, 2]),
    });
  });

  test('agree about open dimensions', () =>
    // A batch of one would be repeated for the other without a word.
    refuses(
      run({ x: a, y: float32([1, 2], [1, 2]) }),
      "the input 'y' has a batch of 1, but another input has one of 2",
    ));

  test('have all their data', async () => {
    await refuses(
      run({ x: a, y: { ...a, data: new Float32Array(3) } }),
      "the input 'y' has 3 elements, but its shape [2,2] has 4",
    );
    await refuses(
      run(
        { n: { dtype: 'int64', dims: [2], data: BigInt64Array.of(1n) } },
        { inputs: [n], outputs: { twice: add(n, n) } },
      ),
      "the input 'n' has 1 elements, but its shape [2] has 2",
    );
  });
});

describe('weights', () => {
  const program = (weight: HostTensor): Program => ({
    inputs: [x],
    outputs: { product: matmul(x, w) },
    weights: new Map([['w', weight]]),
  });

  test('need not be fed', async () => {
    const executable = await device.compile(program(float32([1, 0, 2, 0, 1, 3], [2, 3])));
    expect(await executable.run({ x: a })).toEqual({ product: float32([1, 2, 8, 3, 4, 18], [2, 3]) });
    await executable.dispose();
  });

  test('fit the graph', async () => {
    await refuses(
      device.compile(program(float32([1, 2, 3, 4], [2, 2]))),
      "the weight 'w' is float32[2,3], but float32[2,2] was given",
    );
    await refuses(
      device.compile(program({ dtype: 'float32', dims: [2, 3], data: new Float32Array(5) })),
      "the weight 'w' has 5 elements, but its shape [2,3] has 6",
    );
  });
});

describe('tensors in JavaScript', () => {
  test('of every dtype go in and come out', async () => {
    const given: Record<string, HostTensor> = {
      f: float32([0.5, -1], [2]),
      l: { dtype: 'int64', dims: [1, 2], data: BigInt64Array.of(-(2n ** 62n), 3n) },
      i: { dtype: 'int32', dims: [], data: Int32Array.of(-7) },
      b: { dtype: 'bool', dims: [3], data: Uint8Array.of(1, 0, 1) },
      empty: float32([], [0, 4]),
    };
    const outputs: Record<string, Tensor> = {};
    for (const [name, { dtype, dims }] of Object.entries(given))
      outputs[`${name}2`] = input(name, dtype, dims);
    const executable = await device.compile(withInputs({ outputs }));
    const results = await executable.run(given);
    for (const [name, tensor] of Object.entries(given)) expect(results[`${name}2`]).toEqual(tensor);
    await executable.dispose();
  });

  test('of zeros', () => {
    expect(hostZeros('int64', [2, 1])).toEqual({ dtype: 'int64', dims: [2, 1], data: new BigInt64Array(2) });
    expect(hostZeros('bool', [])).toEqual({ dtype: 'bool', dims: [], data: new Uint8Array(1) });
    expect(hostZeros('float32', [3, 0]).data).toHaveLength(0);
  });
});

describe('devices', () => {
  test('of another name there are none', () =>
    refuses(
      openDevice('nonsense' as DeviceName),
      "there is no device 'nonsense': use cpu, wasm, webgpu, cuda",
    ));

  test.each([0, -1, 1.5, Number.NaN])('do not compute with %s threads', (threads) =>
    refuses(openDevice('cpu', { threads }), `threads is ${threads}: expected a whole number, 1 or more`),
  );

  test('compute the same with any number of threads', async () => {
    const left = input('left', 'float32', [64, 64]);
    const outputs = { product: matmul(left, left) };
    const data = Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i));
    const results = await Promise.all(
      [1, 2].map(async (threads) => {
        const executable = await (await openDevice('cpu', { threads })).compile(withInputs({ outputs }));
        const { product } = await executable.run({ left: float32(data, [64, 64]) });
        await executable.dispose();
        return product;
      }),
    );
    expect(results[0]).toEqual(results[1]);
  });

  test('run programs without inputs', async () => {
    const executable = await device.compile(withInputs({ outputs: { nothing: zeros([2]) } }));
    expect(await executable.run({})).toEqual({ nothing: float32([0, 0], [2]) });
    await executable.dispose();
  });

  test('say so when a program fails in the middle', async () => {
    // Two dimensions that the graph takes for equal, and that only a sum could tell apart.
    const p = input('p', 'float32', ['n+m']);
    const q = input('q', 'float32', ['n+m']);
    const executable = await device.compile(withInputs({ outputs: { r: add(p, q) } }));
    const attempt = executable.run({ p: float32([1, 2], [2]), q: float32([1, 2, 3], [3]) });
    await refuses(attempt, 'the cpu device failed: ');
    await executable.dispose();
  });
});
