/** The thread runs the built module. */
import { expect, test } from 'vitest';
import { tinyTokenizer } from './testing/tiny.js';
import { TokenThread } from './token-thread.js';

const BUILT = new URL('../../dist/text/token-thread-worker.js', import.meta.url);

test('concurrent requests each get their own tokens', async () => {
  const thread = new TokenThread(tinyTokenizer, BUILT);
  const texts = Array.from({ length: 20 }, (_, i) => `the ${i} heron `.repeat(1 + (i % 7)));
  const made = await Promise.all(texts.map((text) => thread.encode(text)));
  expect(made.map((ids) => [...ids])).toEqual(texts.map((text) => tinyTokenizer.encode(text)));
  await thread.close();
});

test('if the thread ends or fails to start, pending and later requests are rejected', async () => {
  const closed = new TokenThread(tinyTokenizer, BUILT);
  const waiting = closed.encode('the heron');
  await Promise.all([expect(waiting).rejects.toThrow('ended with code'), closed.close()]);
  await expect(closed.encode('the heron')).rejects.toThrow('ended with code');
  const missing = new TokenThread(tinyTokenizer, new URL('./no-such-module.js', import.meta.url));
  await expect(missing.encode('the heron')).rejects.toThrow(/Cannot find module/);
});
