/** Who reads next, and streams put together. */
import { expect, test } from 'vitest';
import { merged } from '../../generate/index.js';
import { PrefillQueue } from './prefill-queue.js';
import { SharedPrefixes } from './shared-prefixes.js';

const never = new AbortController().signal;

test('a short prompt waits for one slice of each long one', async () => {
  const turns = new PrefillQueue(256);
  const order: string[] = [];
  const reader = async (name: string, slices: number): Promise<void> => {
    for (let i = 0; i < slices; i++) {
      await turns.take(
        256,
        async () => {
          order.push(name);
          await new Promise(setImmediate);
        },
        never,
      );
    }
  };
  await Promise.all([reader('long', 5), reader('also long', 5), reader('short', 1)]);
  expect(order.indexOf('short')).toBe(2);
  expect(order.slice(3, 7)).toEqual(['long', 'also long', 'long', 'also long']);
});

test('short prompts are read together, as many as make a slice', async () => {
  const turns = new PrefillQueue(256);
  let reading = 0;
  let most = 0;
  const read = (tokens: number): Promise<void> =>
    turns.take(
      tokens,
      async () => {
        reading += tokens;
        most = Math.max(most, reading);
        await new Promise(setImmediate);
        reading -= tokens;
      },
      never,
    );
  await Promise.all([100, 100, 50, 100, 256, 1, 255].map(read));
  expect(most).toBe(256);
  // One that is larger than a slice is read alone.
  await Promise.all([300, 300].map(read));
  expect(most).toBe(300);
});

test('who went away takes no turn, and a failed one harms nobody', async () => {
  const turns = new PrefillQueue(256);
  const gone = new AbortController();
  let taken = 0;
  const failed = turns.take(
    256,
    async () => {
      throw new Error('failed');
    },
    never,
  );
  const left = turns.take(256, async () => taken++, gone.signal);
  gone.abort(new Error('gone'));
  await expect(failed).rejects.toThrow('failed');
  await expect(left).rejects.toThrow('gone');
  expect(await turns.take(256, async () => ++taken, never)).toBe(1);
});

test('prompts part where they differ', () => {
  const partings = new SharedPrefixes();
  const beginning = Array.from({ length: 40 }, (_, i) => i);
  expect(partings.add([...beginning, 100])).toBe(0);
  expect(partings.add([...beginning, 101, 102])).toBe(40);
  expect(partings.add([...beginning, 101, 103])).toBe(41);
  expect(partings.add([0, 1, 7])).toBe(0);
  for (let i = 0; i < 100; i++) partings.add([200 + i]);
  expect(partings.add(beginning)).toBe(0);
});

async function* numbers(...values: number[]): AsyncGenerator<number> {
  for (const value of values) {
    await new Promise(setImmediate);
    yield value;
  }
}

test('merged streams give all there is', async () => {
  const all: number[] = [];
  for await (const value of merged([numbers(1, 3, 5), numbers(2, 4), numbers()], never)) all.push(value);
  expect(all.sort()).toEqual([1, 2, 3, 4, 5]);
});

test('merged streams are returned when nobody takes more, when one fails, and after an abort', async () => {
  const ended: string[] = [];
  async function* noted(name: string, failsAt = Number.POSITIVE_INFINITY): AsyncGenerator<number> {
    try {
      for (let i = 0; ; i++) {
        await new Promise(setImmediate);
        if (i === failsAt) throw new Error(name);
        yield i;
      }
    } finally {
      ended.push(name);
    }
  }
  for await (const value of merged([noted('a'), noted('b')], never)) if (value === 2) break;
  expect(ended.splice(0).sort()).toEqual(['a', 'b']);
  const failing = async (): Promise<void> => {
    for await (const _ of merged([noted('c'), noted('d', 2)], never));
  };
  await expect(failing()).rejects.toThrow('d');
  expect(ended.splice(0).sort()).toEqual(['c', 'd']);
  const controller = new AbortController();
  const aborted = async (): Promise<void> => {
    for await (const value of merged([noted('e'), noted('f')], controller.signal)) {
      if (value === 1) controller.abort(new Error('gone'));
    }
  };
  await expect(aborted()).rejects.toThrow('gone');
  expect(ended.sort()).toEqual(['e', 'f']);
});
