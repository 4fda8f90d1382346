/** How long a request lasts. */
import { Hono } from 'hono';
import { expect, test } from 'vitest';
import { untilSent, type Variables } from './context.js';

/** Asks for three pieces; `released` is what was done when the request was over. */
async function ask(method: string) {
  const released: string[] = [];
  async function* pieces(): AsyncGenerator<Uint8Array, void> {
    try {
      for (const byte of [1, 2, 3]) yield Uint8Array.of(byte);
    } finally {
      released.push('file');
    }
  }
  const app = new Hono<{ Variables: Variables }>();
  app.get('/', (context) => {
    const body = (ReadableStream as unknown as { from(all: AsyncIterable<Uint8Array>): ReadableStream }).from(
      pieces(),
    );
    const answer = untilSent(context, new Response(body, { status: 206, headers: { etag: '"1"' } }));
    void context.get('streamed')?.then(() => released.push('key'));
    return answer;
  });
  return { answer: await app.request('/', { method }), released };
}

test('a download counts until it is there', async () => {
  const { answer, released } = await ask('GET');
  expect([answer.status, answer.headers.get('etag'), released]).toEqual([206, '"1"', []]);
  expect([...new Uint8Array(await answer.arrayBuffer())]).toEqual([1, 2, 3]);
  await expect.poll(() => released).toEqual(['file', 'key']);
});

test('and until its client has gone', async () => {
  const { answer, released } = await ask('GET');
  const reader = answer.body!.getReader();
  expect([...(await reader.read()).value!]).toEqual([1]);
  expect(released).toEqual([]);
  await reader.cancel();
  await expect.poll(() => released).toEqual(['file', 'key']);
});

test('an answer without a body is over at once', async () => {
  const { answer, released } = await ask('HEAD');
  expect([answer.status, answer.headers.get('etag'), answer.body, released]).toEqual([206, '"1"', null, []]);
});
