/** Streams of events, however they end. */
import { expect, test } from 'vitest';
import { DataError } from '../../errors.js';
import { ApiError } from './api-error.js';
import { CHUNKS, eventStream } from './sse.js';

const late = new ApiError(408, 'timeout', 'too late');

/** Values, and whether they were returned before their end. */
function values(count: number, failure?: Error) {
  const state = { returned: false };
  async function* all(): AsyncGenerator<number> {
    try {
      for (let i = 0; i < count; i++) {
        await new Promise(setImmediate);
        yield i;
      }
      if (failure) throw failure;
    } finally {
      state.returned = true;
    }
  }
  return { stream: all(), state };
}

const text = (body: ReadableStream<Uint8Array>): Promise<string> => new Response(body).text();

test('values, and a sign at the end', async () => {
  const { body, done } = eventStream(values(2).stream, new AbortController().signal, CHUNKS);
  expect(await text(body)).toBe('data: 0\n\ndata: 1\n\ndata: [DONE]\n\n');
  await done;
});

test('what goes wrong is the last event', async () => {
  const { body, done } = eventStream(
    values(1, new DataError('bad')).stream,
    new AbortController().signal,
    CHUNKS,
  );
  const [first, last] = (await text(body)).trim().split('\n\n');
  expect(first).toBe('data: 0');
  expect(JSON.parse(last!.slice(6))).toMatchObject({ error: { message: 'bad', code: 'invalid_prompt' } });
  await done;
});

test('an abort ends it, with its reason, also where nobody reads', async () => {
  const controller = new AbortController();
  const { stream, state } = values(1e9);
  const { body, done } = eventStream(stream, controller.signal, CHUNKS);
  const reader = body.getReader();
  await reader.read();
  controller.abort(late);
  await done;
  let rest = '';
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    rest += new TextDecoder().decode(next.value);
  }
  expect(rest).toContain('"code":"timeout"');
  await expect.poll(() => state.returned).toBe(true);
});

test('one that was aborted before it began ends at once', async () => {
  const { body, done } = eventStream(values(1e9).stream, AbortSignal.abort(late), CHUNKS);
  expect(await text(body)).toContain('"code":"timeout"');
  await done;
});

test('a client that leaves takes no more', async () => {
  const { stream, state } = values(1e9);
  const { body, done } = eventStream(stream, new AbortController().signal, CHUNKS);
  const reader = body.getReader();
  await reader.read();
  await reader.cancel();
  await done;
  expect(state.returned).toBe(true);
});

test('a comment says that something is still at work', async () => {
  async function* slow(): AsyncGenerator<number> {
    await new Promise((resolve) => setTimeout(resolve, 60));
    yield 1;
  }
  const { body } = eventStream(slow(), new AbortController().signal, CHUNKS, 5);
  const said = await text(body);
  expect(said).toMatch(/^(: still at work\n\n)+data: 1\n\n/);
});
