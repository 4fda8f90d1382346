/** Calls between threads: pieces, results, errors as what they were, and cancelling. */
import { MessageChannel } from 'node:worker_threads';
import { afterEach, expect, test, vi } from 'vitest';
import { DataError, UnknownStateError } from '../../errors.js';
import { CancelledError, EngineEndedError } from '../errors.js';
import { answerCalls, Caller } from './calls.js';

interface Calls {
  count: { request: number; piece: number; result: string };
  add: { request: [number, number]; piece: never; result: number };
  fail: { request: string; piece: number; result: null };
}

let returned = 0;
const { port1, port2 } = new MessageChannel();
answerCalls<Calls>(port2, {
  async *count(to, signal) {
    try {
      for (let i = 0; i < to; i++) {
        await new Promise(setImmediate);
        signal.throwIfAborted();
        yield i;
      }
      return 'done';
    } finally {
      returned++;
    }
  },
  add: async ([a, b]) => a + b,
  async *fail(kind) {
    yield 1;
    if (kind === 'data') throw new DataError('no tokens');
    if (kind === 'state') throw new UnknownStateError('no state');
    throw new TypeError('a mistake');
  },
});
const caller = new Caller<Calls>(port1);
afterEach(() => {
  returned = 0;
});

async function collected<T, R>(pieces: AsyncGenerator<T, R>): Promise<{ pieces: T[]; result: R }> {
  const all: T[] = [];
  for (;;) {
    const next = await pieces.next();
    if (next.done) return { pieces: all, result: next.value };
    all.push(next.value);
  }
}

test('pieces come in order, each to whom they belong', async () => {
  const answers = await Promise.all([3, 0, 5].map((to) => collected(caller.stream('count', to))));
  expect(answers).toEqual([
    { pieces: [0, 1, 2], result: 'done' },
    { pieces: [], result: 'done' },
    { pieces: [0, 1, 2, 3, 4], result: 'done' },
  ]);
  expect(await caller.call('add', [2, 3])).toBe(5);
});

test('errors arrive as what they were', async () => {
  await expect(caller.call('fail', 'data')).rejects.toThrow(DataError);
  await expect(caller.call('fail', 'state')).rejects.toMatchObject({
    code: 'state_not_found',
    message: 'no state',
  });
  const mistake = await caller.call('fail', 'other').catch((error: unknown) => error);
  expect(mistake).toBeInstanceOf(Error);
  expect((mistake as Error).stack).toContain('calls.test');
  await expect(caller.call('none' as 'add', [1, 2])).rejects.toThrow(Error);
});

test('who takes no more of it cancels it', async () => {
  for await (const piece of caller.stream('count', 1e9)) if (piece === 3) break;
  await vi.waitFor(() => expect(returned).toBe(1));
});

test('an abort cancels it at once, with its reason', async () => {
  const controller = new AbortController();
  const pieces = caller.stream('count', 1e9, controller.signal);
  await pieces.next();
  controller.abort(new CancelledError());
  await expect(collected(pieces)).rejects.toThrow(CancelledError);
  await vi.waitFor(() => expect(returned).toBe(1));
  await expect(caller.call('add', [1, 2], controller.signal)).rejects.toThrow(CancelledError);
});

test('without the other side all calls fail', async () => {
  const pieces = caller.stream('count', 1e9);
  await pieces.next();
  caller.end(new EngineEndedError('it has ended'));
  await expect(collected(pieces)).rejects.toThrow(EngineEndedError);
  await expect(caller.call('add', [1, 2])).rejects.toThrow(EngineEndedError);
  port1.close();
});
