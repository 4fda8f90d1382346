/** States, batches, weights and several devices of the executor `xla`, on the evaluator of StableHLO. */
import { expect, test, vi } from 'vitest';
import { DeviceError } from '../../errors.js';
import {
  add,
  concat,
  gather,
  input,
  matmul,
  multiply,
  reshape,
  scalar,
  selectiveScan,
  sum,
  type Tensor,
} from '../../graph/index.js';
import { SCAN_OPERANDS, scanOperands } from '../../graph/ops/testing/selective-scan.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { type Program, type State, stateChanges } from '../program.js';
import { float32, int64, type QuantizedTensor } from '../tensors.js';
import { XlaDevice, type XlaOptions } from './device.js';
import { OutOfDeviceMemory } from './pjrt.js';
import { EvaluatorClient } from './testing/evaluator-client.js';

const WIDTH = 3;

/** A sum that is replaced, and entries that grow: rows [batch, sequence, 3] are added to both. */
function memoryProgram(): Program {
  const x = input('x', 'float32', ['batch', 'sequence', WIDTH]);
  const before = {
    total: input('total', 'float32', ['batch', WIDTH]),
    seen: input('seen', 'float32', ['batch', 'room', WIDTH]),
  };
  const lengths = input('lengths', 'int64', ['batch']);
  const total = add(before.total, sum(x, 1));
  const specs = [
    { name: 'total', dtype: 'float32', shape: ['batch', WIDTH], initial: 1 },
    { name: 'seen', dtype: 'float32', shape: ['batch', 'past', WIDTH], grows: 1, initial: 0 },
  ] as const;
  return {
    inputs: [x],
    outputs: { total, first: gather(reshape(before.seen, [-1, WIDTH]), scalar(0, 'int64')) },
    state: stateChanges(specs, before, { total, seen: x }),
    lengths,
  };
}

async function memory(client = new EvaluatorClient(), compile?: XlaOptions['compile']) {
  const device = new XlaDevice(client, { precision: 'float32', ...(compile && { compile }) });
  const executable = await device.compile(memoryProgram());
  const feed = (...rows: number[][]) => ({
    x: float32(rows.flat(), [rows.length, rows[0]!.length / WIDTH, WIDTH]),
  });
  return { client, device, executable, feed };
}

test('programs that are compiled at the same time share weights, which each has until it is disposed of', async () => {
  const client = new EvaluatorClient();
  const device = new XlaDevice(client, { precision: 'float32' });
  const [x, w] = [input('x', 'float32', [2, 3]), input('w', 'float32', [4, 3])];
  const weights = new Map([['w', uniform(1, [4, 3])]]);
  const program = { inputs: [x], outputs: { y: matmul(x, w, { transposeB: true }) }, weights };
  const [one, other] = await Promise.all([device.compile(program), device.compile(program)]);
  expect(client.buffers.size).toBe(1);
  await one.dispose();
  expect((await other.run({ x: uniform(2, [2, 3]) })).y!.dims).toEqual([2, 4]);
  await other.dispose();
  expect(client.buffers.size).toBe(0);
});

const numbers = (data: ArrayLike<number | bigint>): number[] => Array.from(data, Number);

test('a state starts with its initial values, moves on, and is read without its room', async () => {
  const { executable, feed } = await memory();
  const state = executable.newState();
  await executable.run(feed([1, 2, 3, 4, 5, 6]), [state]);
  const { total } = await executable.run(feed([1, 1, 1]), [state]);
  expect(numbers(total!.data)).toEqual([7, 9, 11]);
  expect(state.length).toBe(3);
  const read = await state.read();
  expect(read.get('seen')!.dims).toEqual([1, 3, 3]);
  expect(numbers(read.get('seen')!.data)).toEqual([1, 2, 3, 4, 5, 6, 1, 1, 1]);
});

test('rows of different lengths run as one batch, apart, and in another order', async () => {
  const { executable, feed } = await memory();
  const [a, b] = [executable.newState(), executable.newState()];
  await executable.run(feed([1, 0, 0]), [a]);
  await executable.run(feed([2, 0, 0], [3, 0, 0]), [a, b]);
  await executable.run(feed([4, 0, 0], [5, 0, 0]), [b, a]);
  await executable.run(feed([6, 0, 0]), [b]);
  const firsts = async (state: typeof a) =>
    numbers((await state.read(['seen'])).get('seen')!.data).filter((_, i) => i % 3 === 0);
  expect(await firsts(a)).toEqual([1, 2, 5]);
  expect(await firsts(b)).toEqual([3, 4, 6]);
});

test('a batch that stays together moves on in place, and room is added as it is needed', async () => {
  const { client, executable, feed } = await memory();
  const states = [executable.newState(), executable.newState()];
  await executable.run(feed([1, 0, 0], [2, 0, 0]), states);
  const compiled = client.texts.length;
  for (let i = 0; i < 3; i++) await executable.run(feed([1, 0, 0], [2, 0, 0]), states);
  expect(client.texts.length).toBe(compiled);
  const long = Array(3 * 1100).fill(1);
  await executable.run(feed(long, long), states);
  expect(states.map(({ length }) => length)).toEqual([1104, 1104]);
  expect((await states[0]!.read()).get('seen')!.dims).toEqual([1, 1104, 3]);
});

test('one state takes the place of another in a batch by a copy of its own row, and by one more where the other goes on', async () => {
  const { device, executable, feed } = await memory();
  const [a, b, c, d, e, f] = Array.from({ length: 6 }, () => executable.newState());
  await executable.run(feed([1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]), [a!, b!, c!, d!]);
  const copies = vi.spyOn(device, 'runHelper');
  await executable.run(feed([5, 0, 0], [6, 0, 0], [7, 0, 0], [8, 0, 0]), [a!, e!, c!, d!]);
  expect(copies).toHaveBeenCalledTimes(2);
  e!.dispose();
  await executable.run(feed([9, 0, 0], [10, 0, 0], [11, 0, 0], [12, 0, 0]), [a!, f!, c!, d!]);
  expect(copies).toHaveBeenCalledTimes(3);
  const fork = c!.fork();
  await executable.run(feed([0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]), [a!, f!, c!, d!]);
  expect(copies).toHaveBeenCalledTimes(4);
  const totals = await Promise.all(
    [a!, b!, c!, d!, f!, fork].map(async (state) => (await state.read(['total'])).get('total')!.data[0]),
  );
  expect(totals).toEqual([16, 3, 23, 25, 11, 22]);
  await executable.run(feed([1, 0, 0]), [b!]);
  expect(numbers((await b!.read()).get('seen')!.data)).toEqual([2, 0, 0, 1, 0, 0]);
});

test('a state whose row another takes may be forked meanwhile, as may one that stays', async () => {
  const idle: State[] = [];
  const forks: State[] = [];
  const { executable, feed } = await memory(new EvaluatorClient(), async (client, text, options) => {
    for (const state of idle) forks.push(state.fork());
    await Promise.resolve();
    return client.compile(text, options);
  });
  const [a, b, c, d, e] = Array.from({ length: 5 }, () => executable.newState());
  await executable.run(feed([1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]), [a!, b!, c!, d!]);
  idle.push(b!, c!.fork());
  await executable.run(feed([5, 0, 0], [6, 0, 0], [7, 0, 0], [8, 0, 0]), [a!, e!, c!, d!]);
  expect(forks.length).toBeGreaterThanOrEqual(4);
  const totals = async (states: readonly State[]) =>
    Promise.all(states.map(async (state) => (await state.read(['total'])).get('total')!.data[0]));
  const taken = [...forks];
  idle.length = 0;
  expect(await totals(taken)).toEqual(taken.map((_, i) => (i % 2 === 0 ? 3 : 4)));
  expect(await totals([a!, b!, c!, d!, e!])).toEqual([7, 3, 11, 13, 7]);
});

/** Sums that do not grow, of each column. */
function sumsProgram(): Program {
  const x = input('x', 'float32', ['batch', 'sequence', WIDTH]);
  const specs = ['first', 'second', 'third'].map(
    (name) => ({ name, dtype: 'float32', shape: ['batch', WIDTH], initial: 0 }) as const,
  );
  const before = Object.fromEntries(
    specs.map(({ name }) => [name, input(name, 'float32', ['batch', WIDTH])]),
  ) as Record<string, Tensor>;
  const after = Object.fromEntries(
    specs.map(({ name }, i) => [name, add(before[name]!, multiply(sum(x, 1), scalar(i + 1)))]),
  );
  return { inputs: [x], outputs: { first: after.first! }, state: stateChanges(specs, before, after) };
}

test('states that do not grow stay where they are, whatever room is asked for, and are read by one copy', async () => {
  const client = new EvaluatorClient();
  const device = new XlaDevice(client, { precision: 'float32' });
  const executable = await device.compile(sumsProgram());
  const states = [executable.newState(), executable.newState()];
  const x = float32([1, 2, 3, 4, 5, 6], [2, 1, WIDTH]);
  await executable.run({ x }, states, { room: 5000 });
  const copies = vi.spyOn(device, 'runHelper');
  await executable.run({ x }, states, { room: 5000 });
  expect(copies).not.toHaveBeenCalled();
  const downloads = vi.spyOn(Object.getPrototypeOf([...client.buffers][0]), 'download');
  const read = await states[1]!.read(['third', 'first']);
  expect(downloads).toHaveBeenCalledTimes(1);
  downloads.mockRestore();
  expect(Array.from(read, ([name, { data }]) => [name, numbers(data)])).toEqual([
    ['third', [24, 30, 36]],
    ['first', [8, 10, 12]],
  ]);
});

test('a state that is forked while its run is compiled for is forked as it was before', async () => {
  const forks: State[] = [];
  let forked: State | undefined;
  const { executable, feed } = await memory(new EvaluatorClient(), async (client, text, options) => {
    if (forked) forks.push(forked.fork());
    await Promise.resolve();
    return client.compile(text, options);
  });
  const state = executable.newState();
  await executable.run(feed([1, 0, 0]), [state]);
  forked = state;
  await executable.run(feed([1, 0, 0, 1, 0, 0]), [state]);
  expect(forks.length).toBeGreaterThan(0);
  const totals = [state, ...forks].map(async (each) => (await each.read(['total'])).get('total')!.data[0]);
  expect(await Promise.all(totals)).toEqual([4, ...forks.map(() => 2)]);
});

test('a state is read where the device has no memory to put its values together', async () => {
  const { client, executable, feed } = await memory();
  const state = executable.newState();
  await executable.run(feed([1, 2, 3]), [state]);
  client.failure = new OutOfDeviceMemory('played', 1e9, undefined);
  const read = await state.read();
  expect(client.failure).toBe(undefined);
  expect(Array.from(read, ([name, { data }]) => [name, numbers(data)])).toEqual([
    ['total', [2, 3, 4]],
    ['seen', [1, 2, 3]],
  ]);
});

test('a batch that most rows have left is not kept for the others', async () => {
  const { client, executable, feed } = await memory();
  const bytes = () => [...client.buffers].reduce((sum, buffer) => sum + buffer.bytes, 0);
  const states = Array.from({ length: 4 }, () => executable.newState());
  const row = bytes();
  await executable.run(feed([1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]), states);
  expect(bytes()).toBe(5 * row);
  const fork = states[3]!.fork();
  for (const state of states.slice(0, 2)) await executable.run(feed([5, 0, 0]), [state]);
  // The third and the fourth, which the fork shares, are alone now.
  expect(bytes()).toBe(5 * row);
  states[2]!.dispose();
  expect(bytes()).toBe(4 * row);
  const totals = [states[0]!, states[3]!, fork].map(async (state) => (await state.read()).get('total')!.data);
  expect((await Promise.all(totals)).map((total) => total[0])).toEqual([7, 5, 5]);
});

test.each([
  { leaving: [2], total: 5 },
  { leaving: [2, 3], total: undefined },
])(
  'states $leaving may be disposed of while what is left of their batch is copied',
  async ({ leaving, total }) => {
    const client = new EvaluatorClient();
    const bytes = (): number => [...client.buffers].reduce((sum, buffer) => sum + buffer.bytes, 0);
    let compiling: (() => void)[] = [];
    const { executable, feed } = await memory(client, async (on, text, options) => {
      compiling.shift()?.();
      await Promise.resolve();
      return on.compile(text, options);
    });
    const states = Array.from({ length: 4 }, () => executable.newState());
    const initial = bytes();
    await executable.run(feed([1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]), states);
    let isLeft = false;
    // The first program copies the two that run, the second one row that is left.
    compiling = [
      () => {},
      () => {
        for (const i of leaving) states[i]!.dispose();
        isLeft = true;
      },
    ];
    await executable.run(feed([5, 0, 0], [5, 0, 0]), states.slice(0, 2));
    expect(isLeft).toBe(true);
    const totals = async (state: State) => numbers((await state.read(['total'])).get('total')!.data)[0];
    expect(await totals(states[0]!)).toBe(7);
    if (total !== undefined) expect(await totals(states[3]!)).toBe(total);
    for (const state of states) state.dispose();
    expect(bytes()).toBe(initial);
  },
);

test('a fork goes its own way', async () => {
  const { executable, feed } = await memory();
  const state = executable.newState();
  await executable.run(feed([1, 1, 1]), [state]);
  const fork = state.fork();
  await executable.run(feed([5, 5, 5]), [fork]);
  await executable.run(feed([7, 7, 7]), [state]);
  expect(numbers((await fork.read()).get('total')!.data)).toEqual([7, 7, 7]);
  expect(numbers((await state.read()).get('total')!.data)).toEqual([9, 9, 9]);
});

test('what was read is a state again', async () => {
  const { executable, feed } = await memory();
  const state = executable.newState();
  await executable.run(feed([1, 2, 3, 4, 5, 6]), [state]);
  const again = executable.newState(await state.read(), state.length);
  for (const each of [state, again]) await executable.run(feed([1, 1, 1]), [each]);
  expect(await again.read()).toEqual(await state.read());
});

test('a run that fails leaves its rows as they were', async () => {
  const { client, executable, feed } = await memory();
  const state = executable.newState();
  await executable.run(feed([1, 1, 1]), [state]);
  client.failure = new DeviceError('out of memory');
  await expect(executable.run(feed([5, 5, 5]), [state])).rejects.toThrow('out of memory');
  const { total } = await executable.run(feed([1, 1, 1]), [state]);
  expect(numbers(total!.data)).toEqual([3, 3, 3]);
  expect(state.length).toBe(2);
});

test('what is disposed of leaves nothing on the device', async () => {
  const { client, executable, feed } = await memory();
  const states = [executable.newState(), executable.newState()];
  await executable.run(feed([1, 0, 0], [2, 0, 0]), states);
  for (const state of [states[0]!.fork(), ...states]) state.dispose();
  await executable.dispose();
  expect([...client.buffers]).toEqual([]);
});

test('states of others, rows that are missing and feeds that do not fit are refused', async () => {
  const { executable, feed } = await memory();
  const other = await memory();
  const state = executable.newState();
  await expect(executable.run(feed([1, 1, 1]), [other.executable.newState()])).rejects.toThrow(DeviceError);
  await expect(executable.run(feed([1, 1, 1]), [])).rejects.toThrow('takes as many');
  await expect(executable.run(feed([1, 1, 1], [1, 1, 1]), [state, state])).rejects.toThrow('fork it');
  await expect(executable.run({}, [state])).rejects.toThrow("'x' was not fed");
  state.dispose();
  await expect(executable.run(feed([1, 1, 1]), [state])).rejects.toThrow('disposed');
});

test.each([4, 8] as const)(
  'weights of %i bits stay packed, and are widened in products and tables',
  async (bits) => {
    const [rows, columns, block] = [5, 10, 4];
    const blocks = rows * Math.ceil(columns / block);
    const codes = Uint8Array.from(uniform(1, [(blocks * block * bits) / 8], 0, 255).data as Float32Array);
    const scales = uniform(2, [blocks], -0.5, 0.5).data as Float32Array;
    const weight: QuantizedTensor = { dims: [rows, columns], bits, block, codes, scales };
    const stored = (blocks / rows) * block;
    const values = Float32Array.from({ length: rows * columns }, (_, i) => {
      const at = Math.floor(i / columns) * stored + (i % columns);
      const code = bits === 8 ? codes[at]! : (codes[at >> 1]! >> (4 * (at & 1))) & 15;
      return scales[Math.floor(at / block)]! * (code - 2 ** (bits - 1));
    });
    const w = input('w', 'float32', [rows, columns]);
    const x = input('x', 'float32', ['tokens', columns]);
    const ids = input('ids', 'int64', ['some']);
    const outputs = { product: matmul(x, w, { transposeB: true }), rows: gather(w, ids) };
    const client = new EvaluatorClient();
    const device = new XlaDevice(client, { precision: 'float32' });
    const compile = (given: QuantizedTensor | ReturnType<typeof float32>) =>
      device.compile({ inputs: [x, ids], outputs, weights: new Map([['w', given]]) });
    const [packed, plain] = [await compile(weight), await compile(float32(values, [rows, columns]))];
    // One row, a few, and many are multiplied in different ways.
    for (const tokens of [1, 2, 40]) {
      const feeds = { x: uniform(3, [tokens, columns]), ids: int64([4, 0, 4], [3]) };
      const [made, wanted] = [await packed.run(feeds), await plain.run(feeds)];
      for (const name of ['product', 'rows'])
        expect(
          relativeError(made[name]!.data as Float32Array, wanted[name]!.data as Float32Array),
        ).toBeLessThan(1e-6);
    }
    expect(client.texts[0]).toContain(`tensor<${rows}x${(stored * bits) / 8}xui8>`);
  },
);

/** Two steps of x <- x + sum over the batch of (batch rows w), a stand-in for training. */
function spreadProgram(): Program {
  const rows = input('rows', 'float32', [4, 6]);
  const w = input('w', 'float32', [6, 2]);
  const after: Tensor = add(w, matmul(multiply(rows, 0.5), matmul(rows, w), { transposeA: true }));
  const specs = [{ name: 'w', dtype: 'float32', shape: [6, 2], initial: 1 }] as const;
  return {
    inputs: [rows],
    outputs: { size: sum(concat([after, w], 0)) },
    state: stateChanges(specs, { w }, { w: after }),
    spread: { rows: 0 },
  };
}

test.each([
  ['data', 1],
  ['data', 2],
  ['full', 2],
] as const)('shared by %s over %i devices, a program makes the same', async (shard, devices) => {
  const client = new EvaluatorClient(devices);
  const device = new XlaDevice(client, { precision: 'float32', devices, shard });
  const alone = new XlaDevice(new EvaluatorClient(), { precision: 'float32' });
  const feeds = { rows: uniform(1, [4, 6]) };
  const results = await Promise.all(
    [device, alone].map(async (each) => {
      const executable = await each.compile(spreadProgram());
      const state = executable.newState(new Map([['w', uniform(2, [6, 2])]]));
      await executable.run(feeds, [state]);
      const { size } = await executable.run(feeds, [state.fork()]);
      return { size: size!.data, w: (await state.read()).get('w')!.data };
    }),
  );
  expect(results[0]).toEqual(results[1]);
  const text = client.texts[0]!;
  expect(text).toContain(`sdy.mesh @mesh = <["devices"=${devices}]>`);
  expect(text).toContain('%arg1: tensor<4x6xf32> {sdy.sharding = #sdy.sharding<@mesh, [{"devices"}, {}]>}');
  const kept = shard === 'full' ? '[{"devices"}, {}]' : '[{}, {}]';
  expect(text).toContain(
    `%arg0: tensor<6x2xf32> {tf.aliasing_output = 0 : i32, sdy.sharding = #sdy.sharding<@mesh, ${kept}>}`,
  );
});

test('more devices than there are are refused', () => {
  expect(() => new XlaDevice(new EvaluatorClient(1), { precision: 'float32', devices: 2 })).toThrow(
    DeviceError,
  );
});

test('what a plugin cannot compile kernels for is computed without them, and other calls are still made', async () => {
  const sizes = { width: 32, size: 8 };
  const operands = scanOperands(sizes, 1, 3);
  const leaves = SCAN_OPERANDS.map((name) => input(name, 'float32', operands[name].dims));
  const { output } = selectiveScan(Object.fromEntries(leaves.map((x, i) => [SCAN_OPERANDS[i]!, x])) as never);
  const results = [];
  const tried: boolean[] = [];
  for (const hasKernels of [true, false]) {
    const device = new XlaDevice(new EvaluatorClient(), {
      precision: 'float32',
      async compile(client, text, options) {
        const isKernel = text.includes('xla.gpu.triton');
        tried.push(isKernel);
        if (isKernel && !hasKernels) throw new DeviceError('there is no such call');
        return client.compile(text, options);
      },
    });
    const executable = await device.compile({ inputs: leaves, outputs: { output } });
    results.push((await executable.run(operands)).output!.data as Float32Array);
    expect([...device.calls].includes('triton')).toBe(hasKernels);
    expect([...device.calls]).toContain('cudnn');
  }
  expect(tried).toEqual([true, true, false]);
  expect(relativeError(results[1]!, results[0]!)).toBeLessThan(1e-6);
});
