/** The thread's module is the built one. */
import { expect, test } from 'vitest';
import { tinyTokenizer } from './testing/tiny.js';
import { TokenThread } from './token-thread.js';

const BUILT = new URL('../../dist/text/token-thread-worker.js', import.meta.url);

test('texts that are asked for at the same time each get their own tokens', async () => {
  const thread = new TokenThread(tinyTokenizer, BUILT);
  const texts = Array.from({ length: 20 }, (_, i) => `the ${i} heron `.repeat(1 + (i % 7)));
  const made = await Promise.all(texts.map((text) => thread.encode(text)));
  expect(made.map((ids) => [...ids])).toEqual(texts.map((text) => tinyTokenizer.encode(text)));
  await thread.close();
});

test('a thread that ends, or never begins, refuses what waits for it and what comes after', async () => {
  const closed = new TokenThread(tinyTokenizer, BUILT);
  const waiting = closed.encode('the heron');
  await Promise.all([expect(waiting).rejects.toThrow('ended with code'), closed.close()]);
  await expect(closed.encode('the heron')).rejects.toThrow('ended with code');
  const missing = new TokenThread(tinyTokenizer, new URL('./no-such-module.js', import.meta.url));
  await expect(missing.encode('the heron')).rejects.toThrow(/Cannot find module/);
});
