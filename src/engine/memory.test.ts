/** Carried values: what stays from run to run, how appended ones grow, and that no two memories share anything. */
import { describe, expect, test } from 'vitest';
import { DeviceError } from '../errors.js';
import { add, type DType, input, multiply, sum } from '../graph/index.js';
import {
  type Executable,
  float32,
  type HostTensor,
  hostZeros,
  int64,
  type Memory,
  openDevice,
} from './index.js';

const device = await openDevice('cpu', { threads: 1 });

const numbers = (tensor: HostTensor | undefined): number[] => Array.from(tensor!.data, Number);

describe('a replaced value', () => {
  /** total <- total + x; y = 10 total. */
  async function accumulator(): Promise<Executable> {
    const total = input('total', 'float32', [2]);
    const next = add(total, input('x', 'float32', [2]));
    return device.compile({
      outputs: { y: multiply(next, 10) },
      carried: { total: { kind: 'replace', next } },
    });
  }
  const start = () => new Map([['total', float32([1, 2], [2])]]);
  const x = float32([1, 10], [2]);

  test('stays from run to run', async () => {
    const executable = await accumulator();
    const memory = executable.allocate(start());
    expect([...executable.inputs].sort()).toEqual(['total', 'x']);
    expect(numbers((await executable.run({ x }, memory)).y)).toEqual([20, 120]);
    expect(numbers((await executable.run({ x }, memory)).y)).toEqual([30, 220]);
    expect(numbers((await memory.read()).get('total'))).toEqual([3, 22]);
    expect([memory.length, memory.bytes]).toEqual([0, 8]);
    await executable.dispose();
  });

  test('belongs to one memory', async () => {
    const executable = await accumulator();
    const [one, other] = [executable.allocate(start()), executable.allocate(start())];
    await executable.run({ x }, one);
    const copy = (await one.snapshot()).memory();
    await executable.run({ x }, one);
    await executable.run({ x }, copy);
    await executable.run({ x }, copy);
    const totals = [one, other, copy].map(async (memory) => numbers((await memory.read()).get('total')));
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
    const executable = await device.compile({
      outputs: { y: sum(next) },
      carried: { total: { kind: 'replace', next } },
    });
    const memory = executable.allocate(new Map([['total', hostZeros('float32', [size])]]));
    const kept = await memory.snapshot();
    const runs = 20;
    const one = float32([1], []);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < runs; i++) {
      const passing = await memory.snapshot();
      await executable.run({ x: one }, memory);
      passing.dispose();
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan((4 * size * runs) / 4);
    const values = [memory, kept].map(async (each) => (await each.read()).get('total')!.data.at(-1));
    expect(await Promise.all(values)).toEqual([runs, 0]);
    memory.dispose();
    expect((await kept.read()).get('total')!.data.length).toBe(size);
    await executable.dispose();
  });

  test('gives back what it was given to begin with, once that is replaced', async () => {
    const executable = await accumulator();
    const values = start();
    const memory = executable.allocate(values);
    await executable.run({ x }, memory);
    expect(values.get('total')!.data.length).toBe(0);
    memory.dispose();
    await executable.dispose();
  });

  test('is read as a copy', async () => {
    const executable = await accumulator();
    const memory = executable.allocate(start());
    (await memory.read(['total'])).get('total')!.data[0] = 99;
    expect(numbers((await memory.read(['total'])).get('total'))).toEqual([1, 2]);
    await executable.dispose();
  });

  test('keeps its value when a run fails', async () => {
    const executable = await accumulator();
    const memory = executable.allocate(start());
    await expect(executable.run({ x: float32([1], [1]) }, memory)).rejects.toThrow(DeviceError);
    expect(numbers((await memory.read()).get('total'))).toEqual([1, 2]);
    await executable.dispose();
  });
});

describe('an appended value', () => {
  const HEADS = 2;
  const SIZE = 3;

  /** rows [2, n, 3] are written behind the entries of `cache`; the program returns the sum over the whole buffer. */
  async function cache(dtype: DType = 'float32'): Promise<Executable> {
    const buffer = input('cache', dtype, [HEADS, 'room', SIZE]);
    const rows = input('rows', dtype, [HEADS, 'n', SIZE]);
    return device.compile({
      outputs: { total: sum(buffer) },
      carried: { cache: { kind: 'append', rows: add(rows, rows), axis: 1 } },
    });
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

  const empty = (): Map<string, HostTensor> => new Map([['cache', hostZeros('float32', [HEADS, 0, SIZE])]]);

  async function contents(memory: Memory): Promise<number[]> {
    const value = (await memory.read()).get('cache')!;
    expect(value.dims).toEqual([HEADS, memory.length, SIZE]);
    return numbers(value);
  }

  test('after many runs is a plain concatenation', async () => {
    const executable = await cache();
    const memory = executable.allocate(empty());
    expect([memory.length, await contents(memory)]).toEqual([0, []]);
    let length = 0;
    for (const count of [1, 1, 7, 55, 1, 64, 0, 200, 1, 700, 1, 300]) {
      await executable.run({ rows: rows(length, length + count) }, memory);
      length += count;
      expect(memory.length).toBe(length);
      expect(await contents(memory)).toEqual(entries(0, length));
    }
    await executable.dispose();
  });

  test('has room that grows in steps, a sixteenth of it at most unused', async () => {
    const executable = await cache();
    const memory = executable.allocate(empty());
    const rooms = new Set<number>();
    for (let length = 0; length < 1500; length += 20) {
      const room = memory.bytes / (HEADS * SIZE * 4);
      rooms.add(room);
      expect(room).toBeGreaterThanOrEqual(length);
      expect(room - length).toBeLessThanOrEqual(Math.max(64, length / 16));
      await executable.run({ rows: rows(length, length + 20) }, memory);
    }
    // 75 runs moved the entries at most these few times.
    expect(rooms.size).toBeLessThanOrEqual(24);
    await executable.dispose();
  });

  test('shows the program zeros behind its entries', async () => {
    const executable = await cache();
    const memory = executable.allocate(empty());
    await executable.run({ rows: rows(0, 10) }, memory);
    const { total } = await executable.run({ rows: rows(10, 11) }, memory);
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
      const memory = executable.allocate(new Map([['cache', given]]), 5);
      await executable.run({ rows: rows(5, 8) }, memory);
      expect(await contents(memory)).toEqual(entries(0, 8));
    }
    await executable.dispose();
  });

  test('is restored from what was read: the same entries in the same room', async () => {
    const executable = await cache();
    const memory = executable.allocate(empty());
    await executable.run({ rows: rows(0, 70) }, memory);
    const restored = executable.allocate(await memory.read(), memory.length);
    expect(restored.bytes).toBe(memory.bytes);
    await executable.run({ rows: rows(70, 71) }, restored);
    expect(await contents(restored)).toEqual(entries(0, 71));
    expect(await contents(memory)).toEqual(entries(0, 70));
    await executable.dispose();
  });

  test('is copied, and both go on alone', async () => {
    const executable = await cache();
    const memory = executable.allocate(empty());
    await executable.run({ rows: rows(0, 30) }, memory);
    const copy = (await memory.snapshot()).memory();
    await executable.run({ rows: rows(30, 32) }, memory);
    await executable.run({ rows: rows(50, 51) }, copy);
    expect([memory.length, copy.length]).toEqual([32, 31]);
    expect(await contents(memory)).toEqual(entries(0, 32));
    const forked = (await contents(copy)).slice(30 * SIZE, 31 * SIZE);
    expect(forked).toEqual(entries(50, 51).slice(0, SIZE));
    await executable.dispose();
  });

  test('may hold integers', async () => {
    const executable = await cache('int64');
    const memory = executable.allocate(new Map([['cache', hostZeros('int64', [HEADS, 0, SIZE])]]));
    await executable.run({ rows: rows(0, 2, 'int64') }, memory);
    await executable.run({ rows: rows(2, 3, 'int64') }, memory);
    expect(await contents(memory)).toEqual(entries(0, 3).map((value) => 2 * value));
    expect(memory.bytes).toBe(HEADS * 64 * SIZE * 8);
    await executable.dispose();
  });
});

describe('a memory', () => {
  const total = input('total', 'float32', [1]);
  const next = add(total, 1);
  const counter = { outputs: {}, carried: { total: { kind: 'replace', next } } } as const;
  const zero = () => new Map([['total', float32([0], [1])]]);

  test('is shared by programs; one that does not carry a value only reads it', async () => {
    const counts = await device.compile(counter);
    const doubles = await device.compile({ outputs: { y: multiply(total, 2) } });
    const memory = counts.allocate(zero());
    await counts.run({}, memory);
    await counts.run({}, memory);
    expect(numbers((await doubles.run({}, memory)).y)).toEqual([4]);
    expect(numbers((await memory.read()).get('total'))).toEqual([2]);
    await counts.dispose();
    await doubles.dispose();
  });

  test('carries the initial values that the program declares', async () => {
    const executable = await device.compile(counter);
    const allocate = (name: string, value: HostTensor) => () => executable.allocate(new Map([[name, value]]));
    expect(allocate('other', float32([0], [1]))).toThrow(DeviceError);
    expect(allocate('other', float32([0], [1]))).toThrow("the memory has no initial value for 'total'");
    expect(allocate('total', float32([0, 1], [2]))).toThrow(
      "the input 'total' is float32[1], but float32[2] was given",
    );
    expect(allocate('total', { dtype: 'float32', dims: [1], data: new Float32Array(0) })).toThrow(
      "the input 'total' has 0 elements, but its shape [1] has 1",
    );
    await executable.dispose();
  });

  test('holds no more entries than it is given', async () => {
    const buffer = input('buffer', 'float32', ['room']);
    const executable = await device.compile({
      outputs: { total: sum(buffer) },
      carried: { buffer: { kind: 'append', rows: input('rows', 'float32', ['n']), axis: 0 } },
    });
    const three = new Map([['buffer', float32([1, 2, 3], [3])]]);
    expect(() => executable.allocate(three, 4)).toThrow("'buffer' has 3 entries, but 4 are to be held");
    await executable.dispose();
  });

  test('grows by as many entries in each of its values', async () => {
    const carry = (name: string) =>
      ({ kind: 'append', rows: input(`${name}Rows`, 'float32', [`${name}Count`]), axis: 0 }) as const;
    const executable = await device.compile({
      outputs: { total: add(sum(input('a', 'float32', ['room'])), sum(input('b', 'float32', ['room']))) },
      carried: { a: carry('a'), b: carry('b') },
    });
    const none = () => hostZeros('float32', [0]);
    const memory = executable.allocate(
      new Map([
        ['a', none()],
        ['b', none()],
      ]),
    );
    const attempt = executable.run({ aRows: float32([1], [1]), bRows: float32([1, 2], [2]) }, memory);
    await expect(attempt).rejects.toThrow('the appended values grew by different numbers of entries: 1,2');
    expect(memory.length).toBe(0);
    await executable.dispose();
  });

  test('must be there, and hold what the program carries', async () => {
    const executable = await device.compile(counter);
    await expect(executable.run({})).rejects.toThrow('this program carries values');
    const other = input('other', 'float32', [1]);
    const another = await device.compile({
      outputs: {},
      carried: { other: { kind: 'replace', next: add(other, 1) } },
    });
    const memory = another.allocate(new Map([['other', float32([0], [1])]]));
    await expect(executable.run({}, memory)).rejects.toThrow("the memory holds no 'total'");
    await expect(memory.read(['total'])).rejects.toThrow("the memory holds no 'total'");
    await executable.dispose();
    await another.dispose();
  });

  test('is empty once disposed', async () => {
    const executable = await device.compile(counter);
    const memory = executable.allocate(zero());
    memory.dispose();
    expect(memory.bytes).toBe(0);
    await expect(executable.run({}, memory)).rejects.toThrow(DeviceError);
    await executable.dispose();
  });
});
