/** Bodies that are no JSON text are refused by what is wrong with them. */
import { gzipSync } from 'node:zlib';
import { Hono } from 'hono';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { ApiError } from './api-error.js';
import { bodyOf } from './body.js';

const app = new Hono();
app.post('/', async (context) => context.json(await bodyOf(context, z.looseObject({ a: z.number() }))));
app.onError((error) => {
  if (!(error instanceof ApiError)) throw error;
  return Response.json(error.body, { status: error.status });
});

async function answer(body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) {
  const given = { 'content-type': 'application/json', ...headers };
  const response = await app.request('/', { method: 'POST', body, headers: given });
  return [response.status, await response.text()] as const;
}

test('JSON, with a byte order mark too', async () => {
  expect(await answer('\ufeff{"a":1}')).toEqual([200, '{"a":1}']);
  expect(await answer('{"a":1}', { 'content-encoding': 'identity' })).toEqual([200, '{"a":1}']);
});

test.each([
  ['a cut one', '{"a":', {}, 400, /no JSON/],
  [
    'a form',
    'a=1',
    { 'content-type': 'application/x-www-form-urlencoded' },
    415,
    /content-type: application\/json/,
  ],
  [
    'a compressed one',
    gzipSync('{"a":1}'),
    { 'content-encoding': 'gzip' },
    415,
    /content-encoding gzip is not read: send it uncompressed/,
  ],
])('%s', async (_, body, headers, status, words) => {
  const [given, text] = await answer(body as string, headers as Record<string, string>);
  expect(given).toBe(status);
  expect(text).toMatch(words);
});
