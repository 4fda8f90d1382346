/** Two executors as one decoder: wherever a state lives, each goes on from what the other left. */
import { describe, expect, test, vi } from 'vitest';
import { add, input, multiply, sum } from '../graph/index.js';
import { chain } from './chain.js';
import { float32, openDevice, type Program, type State } from './index.js';
import { relay } from './relay.js';

const rows = input('rows', 'float32', ['batch', 'n', 2]);
const total = input('total', 'float32', ['batch']);
const cache = input('cache', 'float32', ['batch', 'room', 2]);
const program: Program = {
  inputs: [rows],
  outputs: { before: multiply(total, 1), seen: sum(sum(cache, 2), 1) },
  state: [
    {
      spec: { name: 'total', dtype: 'float32', shape: ['batch'], initial: 0 },
      before: total,
      after: add(total, sum(sum(rows, 2), 1)),
    },
    {
      spec: { name: 'cache', dtype: 'float32', shape: ['batch', 'past', 2], grows: 1, initial: 0 },
      before: cache,
      after: multiply(rows, 1),
    },
  ],
};

async function sides() {
  const [one, other] = [await openDevice('cpu', { threads: 1 }), await openDevice('cpu', { threads: 1 })];
  const [reading, writing] = [await one.compile(program), await other.compile(program)];
  return { reading, writing, ...relay(reading, writing) };
}

const fed = (...values: number[]) => ({
  rows: float32(
    values.flatMap((value) => [value, value]),
    [values.length, 1, 2],
  ),
});

const totalOf = async (state: State): Promise<number> =>
  (await state.read(['total'])).get('total')!.data[0] as number;

describe('a state', () => {
  test('goes to and fro, alone and in batches, and forks stay where they are', async () => {
    const { reader, writer } = await sides();
    const [a, b] = [reader.newState(), writer.newState()];
    await reader.run(fed(1), [a]);
    await writer.run(fed(2, 10), [a, b]);
    const fork = a.fork();
    const { before, seen } = await reader.run(fed(3, 20), [a, b]);
    expect([...before!.data]).toEqual([6, 20]);
    expect([...seen!.data]).toEqual([6, 20]);
    await writer.run(fed(4), [fork]);
    expect([await totalOf(a), await totalOf(b), await totalOf(fork)]).toEqual([12, 60, 14]);
    expect([a.length, b.length, fork.length]).toEqual([3, 2, 3]);
    for (const state of [a, b, fork]) state.dispose();
    await reader.dispose();
    await writer.dispose();
  });

  test('stays where it was when a run on the other side fails', async () => {
    const { reader, writer, writing } = await sides();
    const state = reader.newState();
    await reader.run(fed(1), [state]);
    const made: State[] = [];
    const { newState } = writing;
    vi.spyOn(writing, 'newState').mockImplementation((...args) => {
      made.push(newState.apply(writing, args));
      return made.at(-1)!;
    });
    await expect(writer.run({ rows: float32([1], [1, 1, 1]) }, [state])).rejects.toThrow('rows');
    expect(made.map(({ bytes }) => bytes)).toEqual([0]);
    await reader.run(fed(2), [state]);
    expect(await totalOf(state)).toBe(6);
    await reader.dispose();
    await writer.dispose();
  });

  test('stays where it was when the last step of reading fails', async () => {
    const { reading, writing } = await sides();
    const head = { ...writing, run: vi.fn().mockRejectedValueOnce(new Error('no memory')) };
    head.run.mockImplementation(async (outputs) => outputs);
    const { reader, writer } = relay(chain(reading, head), writing);
    const state = reader.newState();
    await expect(reader.run(fed(1), [state])).rejects.toThrow('no memory');
    expect(await totalOf(state)).toBe(0);
    const { seen } = await reader.run(fed(2), [state]);
    expect([...seen!.data]).toEqual([0]);
    expect((await writer.run(fed(3), [state])).seen!.data[0]).toBe(4);
    state.dispose();
    await reading.dispose();
    await writing.dispose();
  });

  test('goes to an executor that copies values without a copy before, and forks go on by themselves', async () => {
    const [one, other] = [await openDevice('cpu', { threads: 1 }), await openDevice('wasm', { threads: 1 })];
    const { reader, writer } = relay(await one.compile(program), await other.compile(program));
    const [a, b] = [reader.newState(), reader.newState()];
    await reader.run(fed(1, 2), [a, b]);
    await reader.run(fed(3, 4), [a, b]);
    const fork = b.fork();
    const reads = [a, b].map((state) => vi.spyOn((state as unknown as { held: State }).held, 'read'));
    const { seen } = await writer.run(fed(5, 6), [a, b]);
    for (const read of reads) expect(read).not.toHaveBeenCalled();
    expect([...seen!.data]).toEqual([8, 12]);
    await reader.run(fed(7), [fork]);
    const after = await writer.run(fed(8), [b]);
    expect([...after.seen!.data]).toEqual([24]);
    expect([await totalOf(a), await totalOf(b), await totalOf(fork)]).toEqual([18, 40, 26]);
    for (const state of [a, b, fork]) state.dispose();
    await one.dispose();
    await other.dispose();
  });

  test('of another decoder is refused', async () => {
    const [one, other] = [await sides(), await sides()];
    await expect(one.reader.run(fed(1), [other.reader.newState()])).rejects.toThrow('of another device');
    await expect(one.reader.run(fed(1), [one.reading.newState()])).rejects.toThrow('of another device');
  });
});
