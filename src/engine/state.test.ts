/** States: what stays from run to run, how they grow, and that each has its own. */

import { describe, expect, test } from 'vitest';
import { DeviceError } from '../errors.js';
import { add, type DType, input, inputName, multiply, sum, type Tensor } from '../graph/index.js';
import {
  type Executable,
  float32,
  type HostTensor,
  hostZeros,
  int64,
  openDevice,
  type Program,
  type State,
  type StateChange,
} from './index.js';
import { relay } from './relay.js';
import { withInputs } from './testing/with-inputs.js';
import { WasmDevice } from './wasm/device.js';
import { XlaDevice } from './xla/device.js';
import { EvaluatorClient } from './xla/testing/evaluator-client.js';

const device = await openDevice('cpu', { threads: 1 });

/** A float32 state `name` that a run replaces. */
const replaced = (before: Tensor, after: Tensor): StateChange => ({
  spec: { name: inputName(before)!, dtype: before.dtype, shape: before.shape, initial: 0 },
  before,
  after,
});

type Open = (program: Program) => Promise<{ executable: Executable; bytesHeld: () => number }>;

/** A program on each executor, and on two of them in turn, with what is held for its states as far as that can be told. */
const executors: Readonly<Record<string, Open>> = {
  cpu: async (program) => ({ executable: await device.compile(program), bytesHeld: () => 0 }),
  wasm: async (program) => {
    const wasm = new WasmDevice({ threads: 1 });
    return { executable: await wasm.compile(program), bytesHeld: () => wasm.memory.taken };
  },
  xla: async (program) => {
    const client = new EvaluatorClient();
    const xla = new XlaDevice(client, { precision: 'float32' });
    return { executable: await xla.compile(program), bytesHeld: () => client.buffers.size };
  },
  'cpu and wasm': async (program) => {
    const wasm = new WasmDevice({ threads: 1 });
    const { reader, writer } = relay(await device.compile(program), await wasm.compile(program));
    // States begin on one side and run on the other.
    const newState: Executable['newState'] = (...initial) => reader.newState(...initial);
    return {
      executable: { ...writer, run: writer.run.bind(writer), dispose: writer.dispose.bind(writer), newState },
      bytesHeld: () => wasm.memory.taken,
    };
  },
};

const numbers = (tensor: HostTensor | undefined): number[] => Array.from(tensor!.data, Number);

describe('a replaced value', () => {
  /** total <- total + x; y = 10 total. */
  async function accumulator(): Promise<Executable> {
    const total = input('total', 'float32', [2]);
    const next = add(total, input('x', 'float32', [2]));
    return device.compile(
      withInputs({
        outputs: { y: multiply(next, 10) },
        state: [replaced(total, next)],
      }),
    );
  }
  const start = () => new Map([['total', float32([1, 2], [2])]]);
  const x = float32([1, 10], [2]);

  test('stays from run to run', async () => {
    const executable = await accumulator();
    const state = executable.newState(start());
    expect(numbers((await executable.run({ x }, [state])).y)).toEqual([20, 120]);
    expect(numbers((await executable.run({ x }, [state])).y)).toEqual([30, 220]);
    expect(numbers((await state.read()).get('total'))).toEqual([3, 22]);
    expect([state.length, state.bytes]).toEqual([0, 8]);
    await executable.dispose();
  });

  test('belongs to one memory', async () => {
    const executable = await accumulator();
    const [one, other] = [executable.newState(start()), executable.newState(start())];
    await executable.run({ x }, [one]);
    const copy = one.fork();
    await executable.run({ x }, [one]);
    await executable.run({ x }, [copy]);
    await executable.run({ x }, [copy]);
    const totals = [one, other, copy].map(async (each) => numbers((await each.read()).get('total')));
    expect(await Promise.all(totals)).toEqual([
      [3, 22],
      [1, 2],
      [4, 32],
    ]);
    await executable.dispose();
  });

  test('gives its bytes back when nobody holds it any more', async () => {
    const size = 1e6;
    const total = input('total', 'float32', [size]);
    const next = add(total, input('x', 'float32', []));
    const executable = await device.compile(
      withInputs({
        outputs: { y: sum(next) },
        state: [replaced(total, next)],
      }),
    );
    const state = executable.newState(new Map([['total', hostZeros('float32', [size])]]));
    const kept = state.fork();
    const runs = 20;
    const one = float32([1], []);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < runs; i++) {
      const passing = state.fork();
      await executable.run({ x: one }, [state]);
      passing.dispose();
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan((4 * size * runs) / 4);
    const values = [state, kept].map(async (each) => (await each.read()).get('total')!.data.at(-1));
    expect(await Promise.all(values)).toEqual([runs, 0]);
    state.dispose();
    expect((await kept.read()).get('total')!.data.length).toBe(size);
    await executable.dispose();
  });

  test('gives back what it was given to begin with, once that is replaced', async () => {
    const executable = await accumulator();
    const values = start();
    const state = executable.newState(values);
    await executable.run({ x }, [state]);
    expect(values.get('total')!.data.length).toBe(0);
    state.dispose();
    await executable.dispose();
  });

  test('is read as a copy', async () => {
    const executable = await accumulator();
    const state = executable.newState(start());
    (await state.read(['total'])).get('total')!.data[0] = 99;
    expect(numbers((await state.read(['total'])).get('total'))).toEqual([1, 2]);
    await executable.dispose();
  });

  test('keeps its value when a run fails', async () => {
    const executable = await accumulator();
    const state = executable.newState(start());
    await expect(executable.run({ x: float32([1], [1]) }, [state])).rejects.toThrow(DeviceError);
    expect(numbers((await state.read()).get('total'))).toEqual([1, 2]);
    await executable.dispose();
  });
});

describe('an appended value', () => {
  const HEADS = 2;
  const SIZE = 3;

  /** rows [2, n, 3] are written behind the entries of `cache`; the program returns the sum over the whole buffer. */
  async function cache(dtype: DType = 'float32'): Promise<Executable> {
    const before = input('cache', dtype, [HEADS, 'room', SIZE]);
    const rows = input('rows', dtype, [HEADS, 'n', SIZE]);
    const spec = { name: 'cache', dtype, shape: [HEADS, 'past', SIZE], grows: 1, initial: 0 };
    return device.compile(
      withInputs({
        outputs: { total: sum(before) },
        state: [{ spec, before, after: add(rows, rows) }],
      }),
    );
  }

  const at = (head: number, entry: number, i: number): number => 100 * entry + 10 * head + i;

  /** Entries `from` to `to - 1`, halved: the program doubles them. */
  function rows(from: number, to: number, dtype: 'float32' | 'int64' = 'float32'): HostTensor {
    const values = entries(from, to).map((value) => (dtype === 'int64' ? value : value / 2));
    return dtype === 'int64'
      ? int64(values, [HEADS, to - from, SIZE])
      : float32(values, [HEADS, to - from, SIZE]);
  }

  /** The same entries of a plain concatenation. */
  function entries(from: number, to: number): number[] {
    const values: number[] = [];
    for (let head = 0; head < HEADS; head++) {
      for (let entry = from; entry < to; entry++) {
        for (let i = 0; i < SIZE; i++) values.push(at(head, entry, i));
      }
    }
    return values;
  }

  async function contents(state: State): Promise<number[]> {
    const value = (await state.read()).get('cache')!;
    expect(value.dims).toEqual([HEADS, state.length, SIZE]);
    return numbers(value);
  }

  test('after many runs is a plain concatenation', async () => {
    const executable = await cache();
    const state = executable.newState();
    expect([state.length, await contents(state)]).toEqual([0, []]);
    let length = 0;
    for (const count of [1, 1, 7, 55, 1, 64, 0, 200, 1, 700, 1, 300]) {
      await executable.run({ rows: rows(length, length + count) }, [state]);
      length += count;
      expect(state.length).toBe(length);
      expect(await contents(state)).toEqual(entries(0, length));
    }
    await executable.dispose();
  });

  test('has room that grows in steps, a sixteenth of it at most unused', async () => {
    const executable = await cache();
    const state = executable.newState();
    const rooms = new Set<number>();
    for (let length = 0; length < 1500; length += 20) {
      const room = state.bytes / (HEADS * SIZE * 4);
      rooms.add(room);
      expect(room).toBeGreaterThanOrEqual(length);
      expect(room - length).toBeLessThanOrEqual(Math.max(64, length / 16));
      await executable.run({ rows: rows(length, length + 20) }, [state]);
    }
    // 75 runs moved the entries at most these few times.
    expect(rooms.size).toBeLessThanOrEqual(24);
    await executable.dispose();
  });

  test('shows the program zeros behind its entries', async () => {
    const executable = await cache();
    const state = executable.newState();
    await executable.run({ rows: rows(0, 10) }, [state]);
    const { total } = await executable.run({ rows: rows(10, 11) }, [state]);
    expect(numbers(total)).toEqual([entries(0, 10).reduce((a, b) => a + b, 0)]);
    await executable.dispose();
  });

  test('starts with the entries that it is given, and may be given room for more', async () => {
    const executable = await cache();
    for (const room of [5, 9, 64, 200]) {
      const given = hostZeros('float32', [HEADS, room, SIZE]);
      for (const [i, value] of entries(0, 5).entries()) {
        const head = Math.floor(i / (5 * SIZE));
        given.data[head * room * SIZE + (i % (5 * SIZE))] = value;
      }
      const state = executable.newState(new Map([['cache', given]]), 5);
      await executable.run({ rows: rows(5, 8) }, [state]);
      expect(await contents(state)).toEqual(entries(0, 8));
    }
    await executable.dispose();
  });

  test('is restored from what was read: the same entries in the same room', async () => {
    const executable = await cache();
    const state = executable.newState();
    await executable.run({ rows: rows(0, 70) }, [state]);
    const restored = executable.newState(await state.read(), state.length);
    expect(restored.bytes).toBe(state.bytes);
    await executable.run({ rows: rows(70, 71) }, [restored]);
    expect(await contents(restored)).toEqual(entries(0, 71));
    expect(await contents(state)).toEqual(entries(0, 70));
    await executable.dispose();
  });

  test('is copied, and both go on alone', async () => {
    const executable = await cache();
    const state = executable.newState();
    await executable.run({ rows: rows(0, 30) }, [state]);
    const copy = state.fork();
    await executable.run({ rows: rows(30, 32) }, [state]);
    await executable.run({ rows: rows(50, 51) }, [copy]);
    expect([state.length, copy.length]).toEqual([32, 31]);
    expect(await contents(state)).toEqual(entries(0, 32));
    const forked = (await contents(copy)).slice(30 * SIZE, 31 * SIZE);
    expect(forked).toEqual(entries(50, 51).slice(0, SIZE));
    await executable.dispose();
  });

  test('has room again where a fork that went on is disposed of: the next one copies nothing', async () => {
    const executable = await cache();
    const state = executable.newState();
    await executable.run({ rows: rows(0, 30) }, [state]);
    const [buffer] = state.holdings.keys();
    const other = state.fork();
    for (const [first, last] of [
      [30, 33],
      [40, 41],
      [50, 54],
    ] as const) {
      const fork = state.fork();
      const { total } = await executable.run({ rows: rows(first, last) }, [fork]);
      // Nothing of the fork before it is seen.
      expect(numbers(total)).toEqual([entries(0, 30).reduce((a, b) => a + b, 0)]);
      expect([...fork.holdings.keys()]).toEqual([buffer]);
      const whole = await contents(fork);
      const own = whole.slice(30 * SIZE, (30 + last - first) * SIZE);
      expect(own).toEqual(entries(first, last).slice(0, own.length));
      fork.dispose();
    }
    expect(await contents(other)).toEqual(entries(0, 30));
    // A longer one that lives keeps its entries.
    const longer = state.fork();
    await executable.run({ rows: rows(30, 35) }, [longer]);
    const longest = longer.fork();
    await executable.run({ rows: rows(35, 36) }, [longest]);
    longest.dispose();
    other.dispose();
    const copied = state.fork();
    await executable.run({ rows: rows(60, 61) }, [copied]);
    expect([...copied.holdings.keys()]).not.toEqual([buffer]);
    expect(await contents(longer)).toEqual(entries(0, 35));
    await executable.run({ rows: rows(35, 37) }, [longer]);
    expect(await contents(longer)).toEqual(entries(0, 37));
    await executable.dispose();
  });

  test('may hold integers', async () => {
    const executable = await cache('int64');
    const state = executable.newState();
    await executable.run({ rows: rows(0, 2, 'int64') }, [state]);
    await executable.run({ rows: rows(2, 3, 'int64') }, [state]);
    expect(await contents(state)).toEqual(entries(0, 3).map((value) => 2 * value));
    expect(state.bytes).toBe(HEADS * 64 * SIZE * 8);
    await executable.dispose();
  });
});

describe('a state', () => {
  const total = input('total', 'float32', [1]);
  const counter = { inputs: [], outputs: {}, state: [replaced(total, add(total, 1))] };

  test('is shared by programs; one that leaves a value only reads it', async () => {
    const counts = await device.compile(counter);
    const doubles = await device.compile({
      inputs: [],
      outputs: { y: multiply(total, 2) },
      state: [replaced(total, total)],
    });
    const state = counts.newState();
    await counts.run({}, [state]);
    await counts.run({}, [state]);
    expect(numbers((await doubles.run({}, [state])).y)).toEqual([4]);
    expect(numbers((await state.read()).get('total'))).toEqual([2]);
    await counts.dispose();
    await doubles.dispose();
  });

  test('begins with the values that it is given, which are those that the program declares', async () => {
    const executable = await device.compile(counter);
    const start = (name: string, value: HostTensor) => () => executable.newState(new Map([[name, value]]));
    expect(numbers((await start('total', float32([7], [1]))().read()).get('total'))).toEqual([7]);
    expect(start('other', float32([0], [1]))).toThrow(DeviceError);
    expect(start('other', float32([0], [1]))).toThrow("the program has no state 'other'");
    expect(start('total', float32([0, 1], [2]))).toThrow(
      "the state 'total' is float32[1], but float32[2] was given",
    );
    expect(start('total', { dtype: 'float32', dims: [1], data: new Float32Array(0) })).toThrow(
      "the state 'total' has 0 elements, but its shape [1] has 1",
    );
    await executable.dispose();
  });

  test('begins with the initial value where none is given', async () => {
    const [change] = counter.state;
    const spec = { ...change!.spec, initial: -2 };
    const executable = await device.compile({ ...counter, state: [{ ...change!, spec }] });
    expect(numbers((await executable.newState().read()).get('total'))).toEqual([-2]);
    await executable.dispose();
  });

  const growing = (name: string): StateChange => ({
    spec: { name, dtype: 'float32', shape: ['past'], grows: 0, initial: 0 },
    before: input(name, 'float32', ['room']),
    after: input(`${name}Rows`, 'float32', [`${name}Count`]),
  });

  test('holds no more entries than it is given', async () => {
    const change = growing('buffer');
    const executable = await device.compile(
      withInputs({ outputs: { total: sum(change.before) }, state: [change] }),
    );
    const three = new Map([['buffer', float32([1, 2, 3], [3])]]);
    expect(() => executable.newState(three, 4)).toThrow("'buffer' has 3 entries, but 4 are to be held");
    await executable.dispose();
  });

  test('grows by as many entries in each of its values', async () => {
    const state = [growing('a'), growing('b')];
    const outputs = { total: add(sum(state[0]!.before), sum(state[1]!.before)) };
    const executable = await device.compile(withInputs({ outputs, state }));
    const held = executable.newState();
    const attempt = executable.run({ aRows: float32([1], [1]), bRows: float32([1, 2], [2]) }, [held]);
    await expect(attempt).rejects.toThrow('the growing states grew by different numbers of entries: 1,2');
    expect(held.length).toBe(0);
    await executable.dispose();
  });

  test('must be there, once, and hold what the program names', async () => {
    const executable = await device.compile(counter);
    await expect(executable.run({})).rejects.toThrow('a run of 1 row takes as many, and 0 were given');
    const own = executable.newState();
    await expect(executable.run({}, [own, own])).rejects.toThrow('and 2 were given');
    const other = input('other', 'float32', [1]);
    const another = await device.compile({
      inputs: [],
      outputs: {},
      state: [replaced(other, add(other, 1))],
    });
    const state = another.newState();
    await expect(executable.run({}, [state])).rejects.toThrow("a state has no 'total'");
    await expect(state.read(['total'])).rejects.toThrow("the state has no 'total'");
    const elsewhere = await openDevice('cpu', { threads: 1 });
    const foreign = await elsewhere.compile(counter);
    await expect(executable.run({}, [foreign.newState()])).rejects.toThrow('a state is of another device');
    for (const each of [executable, another, foreign]) await each.dispose();
  });

  test.each(Object.entries(executors))(
    'on %s that is disposed of while its run waits has its values until then, and nothing afterwards',
    async (_, open) => {
      const total = input('total', 'float32', ['batch', 64]);
      const fed = input('x', 'float32', []);
      const next = add(total, fed);
      const { executable, bytesHeld } = await open({
        inputs: [fed],
        outputs: { y: next },
        state: [replaced(total, next)],
      });
      const filled = (value: number) =>
        new Map([['total', float32(new Float32Array(64).fill(value), [1, 64])]]);
      const x = float32([1], []);
      const warm = executable.newState(filled(0));
      await executable.run({ x }, [warm]);
      warm.dispose();
      const before = bytesHeld();
      const [first, second] = [executable.newState(filled(1)), executable.newState(filled(10))];
      const runs = [executable.run({ x }, [first]), executable.run({ x }, [second])];
      first.dispose();
      second.dispose();
      // Whoever takes memory now takes none that a run reads.
      const others = Array.from({ length: 4 }, () => executable.newState(filled(100)));
      const said = await Promise.all(runs);
      expect(said.map(({ y }) => [...new Set(numbers(y))])).toEqual([[2], [11]]);
      for (const other of others) {
        expect(numbers((await other.read()).get('total'))[63]).toBe(100);
        other.dispose();
      }
      expect([first.bytes, second.bytes, bytesHeld()]).toEqual([0, 0, before]);
      expect(() => second.fork()).toThrow(DeviceError);
      await executable.dispose();
    },
  );

  test('is empty once disposed', async () => {
    const executable = await device.compile(counter);
    const state = executable.newState();
    state.dispose();
    state.dispose();
    expect(state.bytes).toBe(0);
    await expect(executable.run({}, [state])).rejects.toThrow(DeviceError);
    await expect(executable.run({}, [state])).rejects.toThrow('the state was disposed of');
    expect(() => state.fork()).toThrow(DeviceError);
    await executable.dispose();
  });
});
