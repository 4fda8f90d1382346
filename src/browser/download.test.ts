/** Downloads over unreliable connections: the same retries as in Node, none without a pause, and not endlessly. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { readBytes } from '../platform/browser/files.js';
import { remove } from '../platform/browser/writing.js';
import { download } from './download.js';

vi.mock('#platform', () => import('../platform/browser/index.js'));
vi.stubGlobal('navigator', { onLine: true });

const FOLDER = '/memory/downloads';
const PATH = `${FOLDER}/weights`;
const WHOLE = Uint8Array.from({ length: 100 }, (_, i) => i);

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(async () => {
  vi.useRealTimers();
  await remove(FOLDER);
});

type Answer = (range: string | undefined) => Response | Promise<Response>;

/** Downloads from a host with these responses, the last one repeated; returns the wait before each request in seconds, and the result. */
async function from(
  answers: readonly Answer[],
  more: { size?: number; signal?: AbortSignal } = { size: 100 },
) {
  const asked: number[] = [];
  const ranges: (string | undefined)[] = [];
  const began = Date.now();
  vi.stubGlobal('fetch', async (_: string, { headers }: { headers: Record<string, string> }) => {
    if (asked.length === 20) throw new Error('it is asked without end');
    const answer = answers[Math.min(asked.length, answers.length - 1)]!;
    asked.push((Date.now() - began) / 1000);
    ranges.push(headers.Range);
    return answer(headers.Range);
  });
  const { signal, ...size } = more;
  const result = download(
    { name: 'weights', url: 'https://host/weights', path: PATH, ...size },
    { signal },
  ).then(String, (error: Error) => `${error.name}: ${error.message}`);
  await vi.runAllTimersAsync();
  return { result: await result, asked, ranges };
}

const status =
  (status: number, headers: Record<string, string> = {}): Answer =>
  () =>
    new Response(null, { status, headers });
const first =
  (count: number): Answer =>
  () =>
    new Response(WHOLE.slice(0, count));
const rest: Answer = (range) => {
  const at = Number(/^bytes=(\d+)-$/.exec(range ?? 'bytes=0-')![1]);
  return new Response(WHOLE.slice(at), { status: range ? 206 : 200 });
};
const PATIENT = [0, 1, 3, 7, 15, 31];

test('an answer that ends too early is a failure, also if each starts at byte 0', async () => {
  const again = await from([first(40)]);
  expect(again.result).toMatch(
    /^HubError: weights could not be loaded from host: the answer ended after 40 of 100 bytes/,
  );
  expect(again.asked).toEqual(PATIENT);
  const growing = await from([10, 20, 30, 40, 50, 60, 70].map(first));
  expect(growing.asked).toEqual(PATIENT);
  const gone = await from([first(40), rest]);
  expect(gone.result).toBe('true');
  expect(await readBytes(PATH)).toEqual(WHOLE);
});

test('a connection that breaks off is resumed', async () => {
  const broken: Answer = () =>
    new Response(
      new ReadableStream({
        pull(controller) {
          controller.enqueue(WHOLE.slice(0, 30));
          controller.error(new TypeError('network error'));
        },
      }),
    );
  expect(await from([broken, rest])).toEqual({
    result: 'true',
    asked: [0, 1],
    ranges: [undefined, undefined],
  });
});

test('a host that is busy is asked again after the wait that it asks for', async () => {
  const { result, asked } = await from([status(503, { 'retry-after': '7' }), status(429), status(500), rest]);
  expect(result).toBe('true');
  expect(asked).toEqual([0, 7, 9, 13]);
  const hours = await from([status(429, { 'retry-after': '7200' })]);
  expect(hours.result).toMatch(
    /^HubError: .*status 429 \(too many requests\).* again in 120 min, as it asks/,
  );
  expect(hours.asked).toEqual([0]);
  expect((await from([status(502)])).asked).toEqual(PATIENT);
});

test('a permanent failure is thrown at once', async () => {
  const missing = await from([status(404)]);
  expect(missing.result).toMatch(/^HubError: host does not give weights \(404\)/);
  expect(missing.asked).toEqual([0]);
  const nobody = await from([() => Promise.reject(new TypeError('Failed to fetch'))]);
  expect(nobody.result).toMatch(/^HubError: host could not be reached for weights/);
  expect(nobody.asked).toEqual([0]);
});

test('a response longer than the file is refused, even if it is endless', async () => {
  let left = 0;
  const endless: Answer = () =>
    new Response(
      new ReadableStream({
        pull(controller) {
          if (left++ > 1000) throw new Error('it is read without end');
          controller.enqueue(WHOLE);
        },
      }),
    );
  const { result, asked } = await from([endless]);
  expect(result).toMatch(/^HubError: weights came with the wrong bytes twice/);
  expect(asked.length).toBe(2);
});

test('an abort during a wait takes effect at once', async () => {
  const controller = new AbortController();
  const busy: Answer = () => {
    setTimeout(() => controller.abort(new Error('enough')), 500);
    return new Response(null, { status: 503 });
  };
  const { result, asked } = await from([busy], { size: 100, signal: controller.signal });
  expect([result, asked]).toEqual(['Error: enough', [0]]);
});

test('a page that a host answers with for a missing file is not taken for the file', async () => {
  const page: Answer = () =>
    new Response('<!doctype html>', { headers: { 'content-type': 'text/html; charset=utf-8' } });
  const { result, asked } = await from([page]);
  expect(result).toMatch(/^HubError: host answered with a web page instead of weights\. Check the address/);
  expect(asked).toEqual([0]);
  vi.stubGlobal('fetch', async () => page(undefined));
  const wanted = { name: 'config.json', url: 'https://host/config.json', path: PATH, isOptional: true };
  expect(await download(wanted)).toBe(false);
});
