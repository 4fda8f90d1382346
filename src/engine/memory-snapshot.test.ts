/** Snapshots and forks: they never change, cost nothing, and go on as if nobody else were there. */
import { describe, expect, test } from 'vitest';
import { DeviceError } from '../errors.js';
import { add, dimension, input, multiply, sum } from '../graph/index.js';
import { generator } from '../graph/testing/random.js';
import {
  type Device,
  type Executable,
  float32,
  type HostTensor,
  hostZeros,
  joinMemories,
  type Memory,
  type MemorySnapshot,
  openDevice,
  splitMemory,
} from './index.js';

const device = await openDevice('cpu', { threads: 1 });
const webgpu = await openDevice('webgpu').catch((error: unknown) => error);

const SIZE = 2;

/**
 * total <- total + sum of the new rows; the rows [batch, n, 2] are appended to `cache`. Returns what a run sees: the sum
 * over the whole buffer and its room.
 */
async function compile(on: Device = device): Promise<Executable> {
  const rows = input('rows', 'float32', ['batch', 'n', SIZE]);
  const total = input('total', 'float32', ['batch']);
  const cache = input('cache', 'float32', ['batch', 'room', SIZE]);
  return on.compile({
    outputs: { seen: sum(sum(cache, 2), 1), room: dimension('room'), before: multiply(total, 1) },
    carried: {
      total: { kind: 'replace', next: add(total, sum(sum(rows, 2), 1)) },
      cache: { kind: 'append', rows: multiply(rows, 1), axis: 1 },
    },
  });
}

const executable = await compile();

function allocate(rows: readonly number[] = [], on = executable): Memory {
  const total = rows.reduce((a, b) => a + SIZE * b, 0);
  return on.allocate(
    new Map([
      ['total', float32([total], [1])],
      ['cache', entriesOf(rows)],
    ]),
    rows.length,
  );
}

/** One entry for each value, which it holds twice. */
function entriesOf(values: readonly number[]): HostTensor {
  return float32(
    values.flatMap((value) => [value, value]),
    [1, values.length, SIZE],
  );
}

async function write(memory: Memory, values: readonly number[], on = executable): Promise<number[]> {
  const { seen, room, before } = await on.run({ rows: entriesOf(values) }, memory);
  return [seen, room, before].map((tensor) => Number(tensor!.data[0]));
}

async function contents(memory: Memory | MemorySnapshot): Promise<number[]> {
  const values = await memory.read();
  const cache = values.get('cache')!;
  expect(cache.dims).toEqual([1, memory.length, SIZE]);
  const held = Array.from(cache.data, Number).filter((_, i) => i % SIZE === 0);
  expect(Number(values.get('total')!.data[0])).toBe(held.reduce((a, b) => a + SIZE * b, 0));
  return held;
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe('a snapshot', () => {
  test('stays as it was, whatever is written afterwards', async () => {
    const memory = allocate([1, 2]);
    const snapshot = await memory.snapshot();
    await write(memory, [3]);
    await write(memory, range(4, 300));
    expect(await contents(snapshot)).toEqual([1, 2]);
    expect([snapshot.length, snapshot.bytes]).toEqual([2, 4 + 2 * SIZE * 4]);
    expect(await contents(memory)).toEqual(range(1, 300));
  });

  test('is taken up again, any number of times', async () => {
    const memory = allocate([1, 2]);
    const snapshot = await memory.snapshot();
    for (const value of [7, 8, 9]) {
      memory.restore(snapshot);
      expect(memory.length).toBe(2);
      await write(memory, [value]);
      await write(memory, [value, value]);
      expect(await contents(memory)).toEqual([1, 2, value, value, value]);
    }
    expect(await contents(snapshot)).toEqual([1, 2]);
  });

  test('costs nothing: along the way of a sequence all share its one buffer', async () => {
    const memory = allocate();
    const snapshots: MemorySnapshot[] = [];
    for (let i = 0; i < 40; i++) {
      await write(memory, range(50 * i, 50 * (i + 1)));
      snapshots.push(await memory.snapshot());
    }
    // The totals are 40 values, the entries one.
    const held = new Map(snapshots.flatMap(({ holdings }) => [...holdings]));
    expect(held.size).toBe(41);
    expect([...held.values()].reduce((a, b) => a + b, 0)).toBe(40 * 4 + memory.bytes - 4);
    for (const [i, snapshot] of snapshots.entries()) {
      expect(await contents(snapshot)).toEqual(range(0, 50 * (i + 1)));
    }
  });

  test('is read as a copy', async () => {
    const memory = allocate([1, 2]);
    const snapshot = await memory.snapshot();
    for (const { data } of (await snapshot.read()).values()) data.fill(99 as never);
    expect(await contents(snapshot)).toEqual([1, 2]);
    expect(await contents(memory)).toEqual([1, 2]);
    expect([...(await snapshot.read(['total'])).keys()]).toEqual(['total']);
    await expect(snapshot.read(['other'])).rejects.toThrow("the memory holds no 'other'");
  });

  test('outlives the memory that it is of', async () => {
    const memory = allocate([1]);
    const snapshot = await memory.snapshot();
    memory.dispose();
    const other = snapshot.memory();
    await write(other, [2]);
    expect(await contents(other)).toEqual([1, 2]);
  });

  test('that was disposed of says so, and leaves others what they share', async () => {
    const memory = allocate([1]);
    const [snapshot, other] = [await memory.snapshot(), await memory.snapshot()];
    snapshot.dispose();
    snapshot.dispose();
    expect(snapshot.holdings.size).toBe(0);
    const attempts = [() => snapshot.memory(), () => memory.restore(snapshot), () => snapshot.length];
    for (const attempt of attempts) {
      expect(attempt).toThrow(DeviceError);
      expect(attempt).toThrow('the snapshot was disposed of');
    }
    expect(await contents(other)).toEqual([1]);
    expect(await contents(memory)).toEqual([1]);
  });

  test('of another program is refused, and nothing is changed', async () => {
    const count = input('count', 'float32', [1]);
    const counts = await device.compile({
      outputs: {},
      carried: { count: { kind: 'replace', next: add(count, 1) } },
    });
    const memory = allocate([1]);
    const other = await counts.allocate(new Map([['count', float32([0], [1])]])).snapshot();
    expect(() => memory.restore(other)).toThrow("the snapshot holds no 'total'");
    const foreign = { ...other } as MemorySnapshot;
    expect(() => memory.restore(foreign)).toThrow('another kind of device');
    expect(await contents(memory)).toEqual([1]);
    await counts.dispose();
  });
});

describe('forks', () => {
  test('go their own ways, also when they run side by side', async () => {
    const trunk = allocate(range(0, 60));
    const snapshot = await trunk.snapshot();
    const forks = range(0, 5).map(() => snapshot.memory());
    await Promise.all(forks.map((fork, i) => write(fork, [100 + i])));
    await Promise.all([...forks].reverse().map((fork) => write(fork, range(0, 9))));
    await write(trunk, [7]);
    for (const [i, fork] of forks.entries()) {
      expect(await contents(fork)).toEqual([...range(0, 60), 100 + i, ...range(0, 9)]);
    }
    expect(await contents(trunk)).toEqual([...range(0, 60), 7]);
  });

  test('copy what has grown only when someone has written behind it', async () => {
    const trunk = allocate(range(1, 11));
    const snapshot = await trunk.snapshot();
    const [first, second] = [snapshot.memory(), snapshot.memory()];
    const buffer = async (memory: Memory): Promise<object> =>
      [...(await memory.snapshot()).holdings.keys()][1]!;
    await write(first, [11]);
    await write(second, [12]);
    expect(await buffer(first)).toBe(await buffer(trunk));
    expect(await buffer(second)).not.toBe(await buffer(trunk));
  });

  test('see zeros behind their entries, and nothing that is not a number of others', async () => {
    const trunk = allocate([1, 2]);
    const fork = (await trunk.snapshot()).memory();
    await write(trunk, [Number.NaN]);
    expect(await write(fork, [3])).toEqual([6, 64, 6]);
  });

  test('after a run that does not fit, are as they were', async () => {
    const memory = allocate([1]);
    const fork = (await memory.snapshot()).memory();
    const wrong = { rows: float32([1, 2, 3], [1, 1, 3]) };
    await expect(executable.run(wrong, fork)).rejects.toThrow(DeviceError);
    await write(fork, [2]);
    expect(await contents(fork)).toEqual([1, 2]);
    expect(await contents(memory)).toEqual([1]);
  });

  test('a value that grows in one program is not replaced by another', async () => {
    const cache = input('cache', 'float32', [1, 'room', SIZE]);
    const replaces = await device.compile({
      outputs: {},
      carried: { cache: { kind: 'replace', next: add(cache, 1) } },
    });
    const memory = allocate([1]);
    await expect(replaces.run({}, memory)).rejects.toThrow("'cache' grows in one program");
    expect(await contents(memory)).toEqual([1]);
    await replaces.dispose();
  });

  test.each(range(0, 20))('any interleaving is as good as a fresh memory (seed %i)', async (seed) => {
    await interleave(seed, [0, 1, 1, 3, 40, 90]);
  });

  // WebGPU has no rows of nothing.
  test.for(range(0, 5))('on webgpu too (seed %i)', async (seed, { skip }) => {
    if (webgpu instanceof Error) return skip(webgpu.message);
    const on = await compile(webgpu as Device);
    await interleave(seed, [1, 1, 1, 3, 40, 90], on);
    await on.dispose();
  });
});

/** Whatever was done before: a run sees and leaves what it does with a memory made of these entries alone. */
async function interleave(seed: number, lengths: readonly number[], on = executable): Promise<void> {
  const random = generator(seed);
  const pick = (n: number): number => Math.floor(random() * n);
  const memories = [{ memory: allocate([], on), held: [] as readonly number[] }];
  const snapshots: { snapshot: MemorySnapshot; held: readonly number[] }[] = [];
  for (let step = 0; step < 60; step++) {
    const one = memories[pick(memories.length)]!;
    const kind = pick(8);
    if (kind < 4 || snapshots.length === 0) {
      const values = range(0, lengths[pick(lengths.length)]!).map(() => pick(1000));
      const fresh = allocate(one.held, on);
      expect(await write(one.memory, values, on)).toEqual(await write(fresh, values, on));
      fresh.dispose();
      one.held = [...one.held, ...values];
    } else if (kind === 4) {
      const { snapshot, held } = snapshots[pick(snapshots.length)]!;
      memories.push({ memory: snapshot.memory(), held });
    } else if (kind === 5) {
      const { snapshot, held } = snapshots[pick(snapshots.length)]!;
      one.memory.restore(snapshot);
      one.held = held;
    } else if (kind === 6 && memories.length > 1) {
      one.memory.dispose();
      memories.splice(memories.indexOf(one), 1);
    }
    if (pick(3) === 0 && memories.includes(one)) {
      const snapshot = pick(2) === 0 ? one.memory.hold() : await one.memory.snapshot();
      snapshots.push({ snapshot, held: one.held });
    }
  }
  for (const { memory, held } of memories) {
    expect(await contents(memory)).toEqual(held);
    memory.dispose();
  }
  for (const { snapshot, held } of snapshots) {
    expect(await contents(snapshot)).toEqual(held);
    snapshot.dispose();
  }
}

describe('stacked', () => {
  const axes = new Map([
    ['total', 0],
    ['cache', 0],
  ]);

  test('memories of unequal lengths are the rows of a batch, and go their own ways again', async () => {
    const ranges = [range(0, 70), range(100, 103), [], range(200, 270)];
    const memories = ranges.map((rows) => allocate(rows));
    const alone = ranges.map((rows) => allocate(rows));
    const before = await Promise.all(memories.map((memory) => memory.snapshot()));
    const joint = await joinMemories(memories, axes);
    const next = [1, 2, 3, 4];
    const { seen } = await executable.run({ rows: rowsOf(next) }, joint);
    const total = (values: readonly number[]): number => SIZE * values.reduce((a, b) => a + b, 0);
    expect(Array.from(seen!.data, Number)).toEqual(ranges.map(total));
    await splitMemory(joint, memories, axes);
    for (const [i, memory] of memories.entries()) {
      expect(memory.length).toBe(ranges[i]!.length + 1);
      expect(await contents(memory)).toEqual([...ranges[i]!, next[i]]);
      expect(await contents(before[i]!)).toEqual(ranges[i]);
      await write(alone[i]!, [next[i]!]);
      expect(memory.bytes).toBe(alone[i]!.bytes);
      expect(await write(memory, [5])).toEqual(await write(alone[i]!, [5]));
    }
    joint.dispose();
  });

  test('a batch goes on without being moved, is left by some, and is joined by others', async () => {
    const memories = [allocate([1, 2]), allocate([3])];
    const together = async (all: readonly Memory[], values: readonly number[]): Promise<void> => {
      const joint = await joinMemories(all, axes);
      await executable.run({ rows: rowsOf(values) }, joint);
      await splitMemory(joint, all, axes);
      joint.dispose();
    };
    await together(memories, [10, 11]);
    const kept = await memories[1]!.snapshot();
    await together(memories, [20, 21]);
    const late = allocate(range(50, 60));
    await together([late, ...memories], [30, 31, 32]);
    await together([memories[1]!, late], [40, 41]);
    const loose = kept.memory();
    await together([loose, memories[0]!], [60, 61]);
    expect(await contents(memories[0]!)).toEqual([1, 2, 10, 20, 31, 61]);
    expect(await contents(memories[1]!)).toEqual([3, 11, 21, 32, 40]);
    expect(await contents(late)).toEqual([...range(50, 60), 30, 41]);
    expect(await contents(loose)).toEqual([3, 11, 60]);
    expect(await contents(kept)).toEqual([3, 11]);
  });

  test('memories must fit together', async () => {
    const one = allocate([1]);
    await expect(joinMemories([], axes)).rejects.toThrow('there are no memories');
    await expect(joinMemories([one], new Map([['total', 0]]))).rejects.toThrow(
      "no axis was named along which 'cache' has its rows",
    );
    const other = await device.compile({
      outputs: {},
      carried: { total: { kind: 'replace', next: multiply(input('total', 'float32', [1, 3]), 2) } },
    });
    const wide = other.allocate(new Map([['total', hostZeros('float32', [1, 3])]]), 1);
    await expect(joinMemories([wide, one], axes)).rejects.toThrow("'total' is [1] in one memory, and [1,3]");
    await expect(joinMemories([one, wide], axes)).rejects.toThrow(DeviceError);
  });
});

function rowsOf(values: readonly number[]): HostTensor {
  return float32(
    values.flatMap((value) => Array.from({ length: SIZE }, () => value)),
    [values.length, 1, SIZE],
  );
}

test('on webgpu what is held for a while stays on the device', async ({ skip }) => {
  if (webgpu instanceof Error) skip(webgpu.message);
  const on = await compile(webgpu as Device);
  const memory = allocate([1, 2], on);
  await write(memory, [3], on);
  const held = memory.hold();
  await write(memory, [4], on);
  await write(memory, [5], on);
  memory.restore(held);
  held.dispose();
  expect(await write(memory, [9], on)).toEqual([12, 64, 12]);
  expect(await contents(memory)).toEqual([1, 2, 3, 9]);
  expect(() => memory.restore(held)).toThrow(DeviceError);
  memory.dispose();
  await on.dispose();
});

test('on webgpu what one program appends another sees', async ({ skip }) => {
  if (webgpu instanceof Error) skip(webgpu.message);
  const on = await compile(webgpu as Device);
  const rows = input('rows', 'float32', ['batch', 'n', SIZE]);
  const unseeing = await (webgpu as Device).compile({
    outputs: { doubled: multiply(rows, 2) },
    carried: { cache: { kind: 'append', rows: multiply(rows, 1), axis: 1 } },
  });
  const memory = allocate([1, 2], on);
  await write(memory, [3], on);
  await unseeing.run({ rows: entriesOf([50]) }, memory);
  expect(await write(memory, [4], on)).toEqual([112, 64, 12]);
  memory.dispose();
  await on.dispose();
  await unseeing.dispose();
});

test('on webgpu a snapshot is a copy, and is taken up as well', async ({ skip }) => {
  if (webgpu instanceof Error) skip(webgpu.message);
  const on = await compile(webgpu as Device);
  const memory = allocate([1, 2], on);
  await write(memory, [3], on);
  const snapshot = await memory.snapshot();
  await write(memory, [4], on);
  const fork = snapshot.memory();
  expect(await write(fork, [9], on)).toEqual([12, 64, 12]);
  expect(await contents(fork)).toEqual([1, 2, 3, 9]);
  memory.restore(snapshot);
  await write(memory, [5], on);
  expect(await contents(memory)).toEqual([1, 2, 3, 5]);
  expect(await contents(snapshot)).toEqual([1, 2, 3]);
  memory.dispose();
  fork.dispose();
  expect(await contents(snapshot)).toEqual([1, 2, 3]);
  await on.dispose();
});
