/** The functions and signals of a call are released when the call, or the object that it created, has ended. */
import { getEventListeners } from 'node:events';
import { expect, test, vi } from 'vitest';
import { Connection, type Request, serve } from './remote.js';

interface Given {
  readonly signal: AbortSignal;
  readonly tell?: (text: string) => void;
}

/** A page and its worker in one thread. */
function connected(root: object) {
  const requests: Request[] = [];
  const worker = {
    onmessage: undefined as ((event: { data: unknown }) => void) | undefined,
    postMessage(data: Request) {
      requests.push(structuredClone(data));
      (globalThis as unknown as { onmessage(event: object): void }).onmessage({
        data: structuredClone(data),
      });
    },
    terminate() {},
  };
  vi.stubGlobal('postMessage', (data: unknown) => worker.onmessage!({ data: structuredClone(data) }));
  serve(root, { typeOf: () => undefined, factsOf: () => undefined });
  return { connection: new Connection(worker as unknown as Worker, {}), worker, requests };
}

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

test('signals and functions of a call are released when it has been answered', async () => {
  const all: Given[] = [];
  const { connection, worker, requests } = connected({
    async read(given: Given) {
      all.push(given);
      given.tell?.('while it lasts');
    },
    async fail(given: Given) {
      all.push(given);
      throw new Error('no');
    },
  });
  const controller = new AbortController();
  const { signal } = controller;
  const told: string[] = [];
  for (let i = 0; i < 3; i++)
    await connection.call(0, 'read', [{ signal, tell: (text: string) => told.push(text) }]);
  await expect(connection.call(0, 'fail', [{ signal }])).rejects.toThrow('no');
  expect(listeners(signal)).toBe(0);
  all[0]!.tell!('afterwards');
  expect(told).toEqual(Array(3).fill('while it lasts'));

  // The worker has released them too.
  const numbers = requests.flatMap((request) =>
    request.kind === 'call' ? [(request.args[0] as { signal: { id: number } }).signal.id] : [],
  );
  for (const signal of numbers) worker.postMessage({ kind: 'abort', signal, reason: 'late' });
  expect(all.map(({ signal }) => signal.aborted)).toEqual([false, false, false, false]);
});

test('those of a call that makes an object are kept as long as that object', async () => {
  const all: Given[] = [];
  const { connection } = connected({
    write(given: Given) {
      all.push(given);
      return {
        async next() {
          given.signal.throwIfAborted();
          given.tell?.('more');
        },
        async return() {},
      };
    },
  });
  const told: string[] = [];
  const writing = async (signal: AbortSignal): Promise<number> => {
    const name = connection.newName();
    await connection.call(0, 'write', [{ signal, tell: (text: string) => told.push(text) }], name);
    await connection.call(name, 'next', []);
    return name;
  };
  const aborted = new AbortController();
  const first = await writing(aborted.signal);
  const kept = new AbortController();
  const second = await writing(kept.signal);
  aborted.abort(new Error('enough'));
  await expect(connection.call(first, 'next', [])).rejects.toThrow('enough');
  await connection.call(second, 'next', []);
  expect(told).toEqual(['more', 'more', 'more']);
  for (const name of [first, second]) {
    await connection.call(name, 'return', []);
    connection.forget(name);
  }
  expect(listeners(kept.signal)).toBe(0);
  all[1]!.tell!('afterwards');
  expect(told.length).toBe(3);
});

test('all are released when the worker ends', async () => {
  const { connection } = connected({ wait: () => new Promise(() => {}), write: () => ({}) });
  const { signal } = new AbortController();
  const waiting = connection.call(0, 'wait', [{ signal }]);
  await connection.call(0, 'write', [{ signal }], connection.newName());
  expect(listeners(signal)).toBe(2);
  connection.end();
  await expect(waiting).rejects.toThrow('disposed of');
  expect(listeners(signal)).toBe(0);
});
