/** Recognition, one picture after the other, with a recognition that is played. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Recognition, Recognizer } from './ocr.js';

const SECONDS = 10;
/** How long each picture takes, by its first byte. */
const png = (seconds: number): Uint8Array => Uint8Array.of(seconds);
const HANGS = 255;
let begun: number;
let closed: number;

async function begin(): Promise<Recognition> {
  begun++;
  return {
    read: ([seconds]) =>
      new Promise((resolve) => {
        if (seconds !== HANGS) setTimeout(() => resolve([{ text: `after ${seconds} s` }]), 1000 * seconds!);
      }),
    async close() {
      closed++;
    },
  };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  begun = 0;
  closed = 0;
});
afterEach(() => vi.useRealTimers());

/** What becomes of pictures that are asked for together. */
async function outcomes(pictures: readonly Uint8Array[], signal?: AbortSignal): Promise<string[]> {
  const recognizer = await Recognizer.open(1, begin);
  const all = pictures.map((picture) =>
    recognizer.read(picture, { seconds: SECONDS, signal }).then(
      (rows) => rows.map(({ text }) => text).join(),
      (error: Error) => error.message,
    ),
  );
  await vi.runAllTimersAsync();
  const found = await Promise.all(all);
  await recognizer.close();
  return found;
}

test('the time of a picture begins at its turn', async () => {
  expect(await outcomes([png(6), png(7), png(8)])).toEqual(['after 6 s', 'after 7 s', 'after 8 s']);
  expect([begun, closed]).toEqual([1, 1]);
});

test('one that hangs is ended, and another reads the others', async () => {
  expect(await outcomes([png(1), png(HANGS), png(9), png(11), png(2)])).toEqual([
    'after 1 s',
    'it took more than 10 s',
    'after 9 s',
    'it took more than 10 s',
    'after 2 s',
  ]);
  expect([begun, closed]).toEqual([3, 3]);
});

test('what is stopped waits for nothing', async () => {
  const stop = new AbortController();
  const waiting = outcomes([png(HANGS), png(1)], stop.signal);
  stop.abort(new Error('stopped'));
  expect(await waiting).toEqual(['stopped', 'stopped']);
});
