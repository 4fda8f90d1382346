/** Forks and batches: each state goes on as if nobody else were there, and next to nothing is copied. */
import { describe, expect, test } from 'vitest';
import { DeviceError } from '../errors.js';
import { add, dimension, input, multiply, sum } from '../graph/index.js';
import { generator } from '../graph/testing/random.js';
import { type Device, float32, type HostTensor, openDevice, type Program, type State } from './index.js';

const device = await openDevice('cpu', { threads: 1 });
const webgpu = await openDevice('webgpu').catch((error: unknown) => error);

const SIZE = 2;

const rows = input('rows', 'float32', ['batch', 'n', SIZE]);
const total = input('total', 'float32', ['batch']);
const cache = input('cache', 'float32', ['batch', 'room', SIZE]);

/**
 * total <- total + sum of the new rows; the rows [batch, n, 2] are appended to `cache`. Returns what a run sees: the sum
 * over the whole buffer and its room.
 */
const program: Program = {
  inputs: [rows],
  outputs: { seen: sum(sum(cache, 2), 1), room: dimension('room'), before: multiply(total, 1) },
  state: [
    {
      spec: { name: 'total', dtype: 'float32', shape: ['batch'], initial: 0 },
      before: total,
      after: add(total, sum(sum(rows, 2), 1)),
    },
    {
      spec: { name: 'cache', dtype: 'float32', shape: ['batch', 'past', SIZE], grows: 1, initial: 0 },
      before: cache,
      after: multiply(rows, 1),
    },
  ],
};

const executable = await device.compile(program);

/** A state that holds these entries. */
function holding(values: readonly number[] = [], on = executable): State {
  const sumOf = values.reduce((a, b) => a + SIZE * b, 0);
  return on.newState(
    new Map([
      ['total', float32([sumOf], [1])],
      ['cache', entriesOf(values)],
    ]),
    values.length,
  );
}

/** One entry for each value, which it holds twice. */
function entriesOf(values: readonly number[]): HostTensor {
  return float32(
    values.flatMap((value) => [value, value]),
    [1, values.length, SIZE],
  );
}

async function write(state: State, values: readonly number[], on = executable): Promise<number[]> {
  const { seen, room, before } = await on.run({ rows: entriesOf(values) }, [state]);
  return [seen, room, before].map((tensor) => Number(tensor!.data[0]));
}

async function contents(state: State): Promise<number[]> {
  const values = await state.read();
  const entries = values.get('cache')!;
  expect(entries.dims).toEqual([1, state.length, SIZE]);
  const held = Array.from(entries.data, Number).filter((_, i) => i % SIZE === 0);
  expect(Number(values.get('total')!.data[0])).toBe(held.reduce((a, b) => a + SIZE * b, 0));
  return held;
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe('a fork', () => {
  test('stays as it was, whatever is written afterwards', async () => {
    const state = holding([1, 2]);
    const fork = state.fork();
    await write(state, [3]);
    await write(state, range(4, 300));
    expect(await contents(fork)).toEqual([1, 2]);
    // They share the buffer still, which has more room by now.
    expect([fork.length, fork.bytes]).toEqual([2, state.bytes]);
    expect(await contents(state)).toEqual(range(1, 300));
  });

  test('is gone on from any number of times', async () => {
    const kept = holding([1, 2]);
    for (const value of [7, 8, 9]) {
      const state = kept.fork();
      await write(state, [value]);
      await write(state, [value, value]);
      expect(await contents(state)).toEqual([1, 2, value, value, value]);
      state.dispose();
    }
    expect(await contents(kept)).toEqual([1, 2]);
  });

  test('costs nothing: along the way of a sequence all share its one buffer', async () => {
    const state = holding();
    const forks: State[] = [];
    for (let i = 0; i < 40; i++) {
      await write(state, range(50 * i, 50 * (i + 1)));
      forks.push(state.fork());
    }
    // The totals are 40 values, the entries one.
    const held = new Map(forks.flatMap(({ holdings }) => [...holdings]));
    expect(held.size).toBe(41);
    expect([...held.values()].reduce((a, b) => a + b, 0)).toBe(40 * 4 + state.bytes - 4);
    for (const [i, fork] of forks.entries()) expect(await contents(fork)).toEqual(range(0, 50 * (i + 1)));
  });

  test('is read as a copy', async () => {
    const state = holding([1, 2]);
    const fork = state.fork();
    for (const { data } of (await fork.read()).values()) data.fill(99 as never);
    expect(await contents(fork)).toEqual([1, 2]);
    expect(await contents(state)).toEqual([1, 2]);
    expect([...(await fork.read(['total'])).keys()]).toEqual(['total']);
    await expect(fork.read(['other'])).rejects.toThrow("the state has no 'other'");
  });

  test('outlives the state that it is of, and leaves others what they share when it is disposed of', async () => {
    const state = holding([1]);
    const [fork, other] = [state.fork(), state.fork()];
    state.dispose();
    await write(fork, [2]);
    expect(await contents(fork)).toEqual([1, 2]);
    fork.dispose();
    expect(fork.holdings.size).toBe(0);
    expect(await contents(other)).toEqual([1]);
  });

  test('goes its own way, also when several run side by side', async () => {
    const trunk = holding(range(0, 60));
    const forks = range(0, 5).map(() => trunk.fork());
    await Promise.all(forks.map((fork, i) => write(fork, [100 + i])));
    await Promise.all([...forks].reverse().map((fork) => write(fork, range(0, 9))));
    await write(trunk, [7]);
    for (const [i, fork] of forks.entries()) {
      expect(await contents(fork)).toEqual([...range(0, 60), 100 + i, ...range(0, 9)]);
    }
    expect(await contents(trunk)).toEqual([...range(0, 60), 7]);
  });

  test('copies what has grown only when someone has written behind it', async () => {
    const trunk = holding(range(1, 11));
    const [first, second] = [trunk.fork(), trunk.fork()];
    const buffer = (state: State): object => [...state.holdings.keys()][1]!;
    await write(first, [11]);
    await write(second, [12]);
    expect(buffer(first)).toBe(buffer(trunk));
    expect(buffer(second)).not.toBe(buffer(trunk));
  });

  test('sees zeros behind its entries, and nothing that is not a number of others', async () => {
    const trunk = holding([1, 2]);
    const fork = trunk.fork();
    await write(trunk, [Number.NaN]);
    expect(await write(fork, [3])).toEqual([6, 64, 6]);
  });

  test('after a run that does not fit, is as it was', async () => {
    const state = holding([1]);
    const fork = state.fork();
    const wrong = { rows: float32([1, 2, 3], [1, 1, 3]) };
    await expect(executable.run(wrong, [fork])).rejects.toThrow(DeviceError);
    await write(fork, [2]);
    expect(await contents(fork)).toEqual([1, 2]);
    expect(await contents(state)).toEqual([1]);
  });

  test('a value that grows in one program is not replaced by another', async () => {
    const whole = input('cache', 'float32', [1, 'room', SIZE]);
    const replaces = await device.compile({
      inputs: [],
      outputs: {},
      state: [
        {
          spec: { name: 'cache', dtype: 'float32', shape: [1, 1, SIZE], initial: 0 },
          before: whole,
          after: add(whole, 1),
        },
      ],
    });
    const state = holding([1]);
    await expect(replaces.run({}, [state])).rejects.toThrow("'cache' grows in one program");
    expect(await contents(state)).toEqual([1]);
    await replaces.dispose();
  });

  test.each(range(0, 20))('any interleaving is as good as a fresh state (seed %i)', async (seed) => {
    await interleave(seed, [0, 1, 1, 3, 40, 90]);
  });

  // WebGPU has no rows of nothing.
  test.for(range(0, 5))('on webgpu too (seed %i)', async (seed, { skip }) => {
    if (webgpu instanceof Error) return skip(webgpu.message);
    const on = await (webgpu as Device).compile(program);
    await interleave(seed, [1, 1, 1, 3, 40, 90], on);
    await on.dispose();
  });
});

/** Whatever was done before: a run sees and leaves what it does with a state made of these entries alone. */
async function interleave(seed: number, lengths: readonly number[], on = executable): Promise<void> {
  const random = generator(seed);
  const pick = (n: number): number => Math.floor(random() * n);
  const states = [{ state: holding([], on), held: [] as readonly number[] }];
  for (let step = 0; step < 60; step++) {
    const one = states[pick(states.length)]!;
    const kind = pick(8);
    if (kind < 3) {
      const values = range(0, lengths[pick(lengths.length)]!).map(() => pick(1000));
      const fresh = holding(one.held, on);
      expect(await write(one.state, values, on)).toEqual(await write(fresh, values, on));
      fresh.dispose();
      one.held = [...one.held, ...values];
    } else if (kind < 5) {
      // Several at once, in any order.
      const together = states.filter(() => pick(2) === 0).sort(() => random() - 0.5);
      if (together.length === 0) continue;
      const values = together.map(() => pick(1000));
      const { seen, before } = await on.run(
        { rows: rowsOf(values) },
        together.map(({ state }) => state),
      );
      for (const [i, each] of together.entries()) {
        const sumOf = each.held.reduce((a, b) => a + SIZE * b, 0);
        expect([seen!.data[i], before!.data[i]]).toEqual([sumOf, sumOf]);
        each.held = [...each.held, values[i]!];
      }
    } else if (kind < 7) {
      states.push({ state: one.state.fork(), held: one.held });
    } else if (states.length > 1) {
      one.state.dispose();
      states.splice(states.indexOf(one), 1);
    }
  }
  for (const { state, held } of states) {
    expect(await contents(state)).toEqual(held);
    state.dispose();
  }
}

function rowsOf(values: readonly number[]): HostTensor {
  return float32(
    values.flatMap((value) => Array.from({ length: SIZE }, () => value)),
    [values.length, 1, SIZE],
  );
}

describe('a batch', () => {
  const together = (states: readonly State[], values: readonly number[]) =>
    executable.run({ rows: rowsOf(values) }, states);

  test('has states of unequal lengths as its rows, and they go their own ways again', async () => {
    const ranges = [range(0, 70), range(100, 103), [], range(200, 270)];
    const states = ranges.map((values) => holding(values));
    const alone = ranges.map((values) => holding(values));
    const before = states.map((state) => state.fork());
    const next = [1, 2, 3, 4];
    const { seen } = await together(states, next);
    const sumOf = (values: readonly number[]): number => SIZE * values.reduce((a, b) => a + b, 0);
    expect(Array.from(seen!.data, Number)).toEqual(ranges.map(sumOf));
    for (const [i, state] of states.entries()) {
      expect(state.length).toBe(ranges[i]!.length + 1);
      expect(await contents(state)).toEqual([...ranges[i]!, next[i]]);
      expect(await contents(before[i]!)).toEqual(ranges[i]);
      await write(alone[i]!, [next[i]!]);
      expect(state.fork().bytes).toBe(alone[i]!.bytes);
      expect(await write(state, [5])).toEqual(await write(alone[i]!, [5]));
    }
  });

  test('goes on without being moved, is left by some, and is joined by others', async () => {
    const states = [holding([1, 2]), holding([3])] as const;
    await together(states, [10, 11]);
    const kept = states[1].fork();
    await together(states, [20, 21]);
    const late = holding(range(50, 60));
    await together([late, ...states], [30, 31, 32]);
    await together([states[1], late], [40, 41]);
    const loose = kept.fork();
    await together([loose, states[0]], [60, 61]);
    expect(await contents(states[0])).toEqual([1, 2, 10, 20, 31, 61]);
    expect(await contents(states[1])).toEqual([3, 11, 21, 32, 40]);
    expect(await contents(late)).toEqual([...range(50, 60), 30, 41]);
    expect(await contents(loose)).toEqual([3, 11, 60]);
    expect(await contents(kept)).toEqual([3, 11]);
  });

  test('has a state for each row, each once', async () => {
    const one = holding([1]);
    await expect(together([one], [1, 2])).rejects.toThrow('a run of 2 rows takes as many, and 1 were given');
    await expect(together([one, one], [1, 2])).rejects.toThrow('a state is given for two rows');
    expect(await contents(one)).toEqual([1]);
  });

  test('has states that fit together', async () => {
    const wide = input('total', 'float32', ['batch', 3]);
    const spec = { name: 'total', dtype: 'float32', shape: ['batch', 3], initial: 0 } as const;
    const other = await device.compile({
      inputs: [],
      outputs: {},
      state: [{ spec, before: wide, after: multiply(wide, 2) }],
    });
    const narrow = await device.compile({
      inputs: [],
      outputs: {},
      state: [{ spec: { ...spec, shape: ['batch'] }, before: total, after: multiply(total, 2) }],
    });
    const attempt = narrow.run({}, [other.newState(), narrow.newState()]);
    await expect(attempt).rejects.toThrow("'total' is [1] in one state, and [1,3] in another");
    await other.dispose();
    await narrow.dispose();
  });
});

test('on webgpu a fork is gone on from, and what is on the device is freed with the last of them', async ({
  skip,
}) => {
  if (webgpu instanceof Error) skip(webgpu.message);
  const on = await (webgpu as Device).compile(program);
  const state = holding([1, 2], on);
  await write(state, [3], on);
  const fork = state.fork();
  await write(state, [4], on);
  await write(state, [5], on);
  state.dispose();
  expect(await write(fork, [9], on)).toEqual([12, 64, 12]);
  expect(await contents(fork)).toEqual([1, 2, 3, 9]);
  fork.dispose();
  await on.dispose();
});

test('on webgpu what one program appends another sees', async ({ skip }) => {
  if (webgpu instanceof Error) skip(webgpu.message);
  const on = await (webgpu as Device).compile(program);
  const unseeing = await (webgpu as Device).compile({
    inputs: [rows],
    outputs: { doubled: multiply(rows, 2) },
    state: program.state!.slice(1),
  });
  const state = holding([1, 2], on);
  await write(state, [3], on);
  await unseeing.run({ rows: entriesOf([50]) }, [state]);
  expect(await write(state, [4], on)).toEqual([112, 64, 12]);
  state.dispose();
  await on.dispose();
  await unseeing.dispose();
});
