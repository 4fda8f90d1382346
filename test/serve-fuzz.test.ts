/** Ten thousand malformed requests: each is refused with a proper error, and leaves nothing behind. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Random } from '../src/nn/index.js';
import { ErrorBody } from '../src/server/http/api-error.js';
import { ChatRequest, CompletionRequest, NewStateRequest } from '../src/server/http/schemas.js';
import { CHATML } from '../src/text/testing/chat-templates.js';
import { build } from './testing/heddle.js';
import { post, type Served, serve, writeTinyModel } from './testing/server.js';

const REQUESTS = 10_000;
const AT_ONCE = 16;
const BODY_LIMIT = 1_000_000;

const root = mkdtempSync(join(tmpdir(), 'heddle-serve-fuzz-'));
let served: Served;
beforeAll(async () => {
  build();
  await writeTinyModel(join(root, 'tiny'), { template: CHATML });
  const limits = ['--context', '64', '--max-body', String(BODY_LIMIT / 1e6)];
  served = await serve([join(root, 'tiny'), '--data', join(root, 'data'), '--threads', '1', ...limits]);
});
afterAll(async () => {
  expect(await served.stop()).toBe(0);
  rmSync(root, { recursive: true, force: true });
});

const SCHEMAS = {
  '/v1/chat/completions': ChatRequest,
  '/v1/completions': CompletionRequest,
  '/v1/states': NewStateRequest,
} as const;
type Path = keyof typeof SCHEMAS;

/** Good requests, to be made bad. */
const GOOD: readonly (readonly [Path, object])[] = [
  [
    '/v1/chat/completions',
    {
      model: 'tiny',
      messages: [
        { role: 'system', content: 'the cat' },
        { role: 'user', content: [{ type: 'text', text: 'sat' }] },
        { role: 'assistant', content: 'on', tool_calls: null },
        { role: 'user', content: 'the mat' },
      ],
      max_tokens: 1,
      temperature: 1,
      top_p: 0.5,
      n: 1,
      seed: 4,
      stop: ['x'],
      stream: false,
      stream_options: { include_usage: true },
      logit_bias: { '4': 3 },
      logprobs: true,
      top_logprobs: 2,
      response_format: { type: 'json_schema', json_schema: { name: 'n', schema: { type: 'integer' } } },
    },
  ],
  [
    '/v1/completions',
    { model: 'tiny', prompt: ['a', 'b'], max_tokens: 1, logprobs: 1, frequency_penalty: 1 },
  ],
  ['/v1/states', { model: 'tiny', messages: [{ role: 'user', content: 'the' }], name: 'n', from: null }],
];

const JUNK: readonly unknown[] = [
  null,
  true,
  -1,
  0.5,
  1e308,
  2 ** 53,
  '',
  'x'.repeat(3000),
  '\u0000',
  '\ud800',
  [],
  {},
  [[[]]],
  { $ref: '#' },
  { __proto__: null, constructor: 1 },
  '../../etc/passwd',
  `state-${'0'.repeat(24)}`,
];

/** Somewhere in a value, something else. */
function mutated(value: unknown, random: Random): unknown {
  const junk = (): unknown => JUNK[random.below(JUNK.length)];
  if (typeof value !== 'object' || value === null || random.uniform() < 0.15) return junk();
  if (Array.isArray(value)) {
    const at = random.below(value.length + 1);
    return at === value.length
      ? [...value, junk()]
      : value.map((each, i) => (i === at ? mutated(each, random) : each));
  }
  const keys = Object.keys(value);
  const way = random.uniform();
  if (way < 0.1) return { ...value, [`extra${random.below(9)}`]: junk() };
  const key = keys[random.below(keys.length)]!;
  if (way < 0.25) return Object.fromEntries(Object.entries(value).filter(([name]) => name !== key));
  return { ...value, [key]: mutated((value as Record<string, unknown>)[key], random) };
}

function bytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.below(256)));
}

interface Sent {
  readonly path: string;
  readonly method?: string;
  readonly type?: string;
  readonly body?: Buffer | string;
  /** Whether it may be answered after all. */
  readonly good: boolean;
}

function request(random: Random): Sent {
  const [path, body] = GOOD[random.below(GOOD.length)]!;
  const text = JSON.stringify(body);
  switch (random.below(10)) {
    case 0:
      return { path, body: bytes(random, random.below(300)), good: false };
    case 1:
      return { path, body: text.slice(0, random.below(text.length)), good: false };
    case 2:
      return {
        path,
        body: text,
        type: ['text/plain', '', 'application/x-www-form-urlencoded'][random.below(3)]!,
        good: false,
      };
    case 3: {
      const ways = [
        { path: '/v1/nothing', method: 'POST' },
        { path: '/v1/states/..%2f..%2fsecrets', method: 'GET' },
        { path: `/v1/states/state-${'f'.repeat(24)}/fork`, method: 'POST' },
        { path: '/v1/models/%00', method: 'GET' },
        { path: '/v1/chat/completions', method: 'DELETE' },
        { path: '/v1/states/none', method: 'PATCH' },
      ];
      const way = ways[random.below(ways.length)]!;
      return { ...way, ...(way.method !== 'GET' && { body: '{}' }), good: false };
    }
    case 4:
      return {
        path,
        body: random.below(2) ? '['.repeat(50_000) : `{"a":${'['.repeat(200)}${']'.repeat(200)}}`,
        good: false,
      };
    default: {
      let value: unknown = body;
      for (let times = 1 + random.below(3); times > 0; times--) value = mutated(value, random);
      return {
        path,
        body: JSON.stringify(value),
        good: SCHEMAS[path].safeParse(JSON.parse(JSON.stringify(value))).success,
      };
    }
  }
}

async function send({ path, method = 'POST', type = 'application/json', body }: Sent): Promise<Response> {
  return fetch(`${served.url}${path}`, {
    method,
    headers: { 'content-type': type },
    ...(body !== undefined && { body: body as BodyInit }),
  });
}

async function figures(): Promise<Record<string, number>> {
  const text = await (await fetch(`${served.url}/metrics`)).text();
  const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)![1]);
  return {
    running: value('heddle_answers_running'),
    waiting: value('heddle_requests_waiting'),
    sequences: value('heddle_sequences'),
    resident: value('process_resident_memory_bytes'),
  };
}

const good = { model: 'tiny', prompt: 'the cat', max_tokens: 8, seed: 1 };

test(`${REQUESTS} malformed requests are refused, and valid ones between them answered`, async () => {
  const expected = await (await post(`${served.url}/v1/completions`, good)).json();
  const textOf = (answer: unknown) => (answer as { choices: { text: string }[] }).choices[0]!.text;
  const counts = new Map<number, number>();
  let next = 0;
  let before: Record<string, number> | undefined;
  const sender = async (): Promise<void> => {
    for (let i = next++; i < REQUESTS; i = next++) {
      if (i === REQUESTS / 2) before = await figures();
      const sent = request(new Random(i));
      const answer = await send(sent);
      const body = await answer.text();
      const where = `${i} ${sent.path} ${String(sent.body).slice(0, 200)} ${answer.status} ${body.slice(0, 300)}`;
      counts.set(answer.status, (counts.get(answer.status) ?? 0) + 1);
      if (sent.good) expect(answer.status, where).toBeLessThan(500);
      else {
        expect(Math.floor(answer.status / 100), where).toBe(4);
        expect(ErrorBody.safeParse(JSON.parse(body)).success, where).toBe(true);
      }
      if (i % 500 === 0) {
        const answered = await (await post(`${served.url}/v1/completions`, good)).json();
        expect(textOf(answered)).toBe(textOf(expected));
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, sender));
  expect(counts.get(400)).toBeGreaterThan(REQUESTS / 4);
  await vi.waitFor(async () => {
    expect(await figures()).toMatchObject({ running: 0, waiting: 0, sequences: 0 });
  }, 60_000);
  // The second half took no more memory than a cache and a heap may come to have.
  expect((await figures()).resident! - before!.resident!).toBeLessThan(150e6);
});

test('truncated and oversized requests leave nothing behind', async () => {
  const port = Number(new URL(served.url).port);
  const raw = (text: string, length: number, then: 'destroy' | 'end' | 'wait') =>
    new Promise<string>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      let answer = '';
      socket.on('data', (part) => {
        answer += part;
      });
      socket.on('close', () => resolve(answer));
      socket.on('error', () => {});
      socket.write(
        `POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${text}`,
        () => {
          if (then === 'destroy') socket.destroy();
          if (then === 'end') socket.end();
        },
      );
    });
  const text = JSON.stringify(good);
  await Promise.all(
    Array.from({ length: 200 }, (_, i) => raw(text.slice(0, i % text.length), text.length, 'destroy')),
  );
  await Promise.all(Array.from({ length: 50 }, () => raw(text, text.length + 5, 'end')));
  const large = await raw('', 10 * BODY_LIMIT, 'wait');
  expect(large).toMatch(/^HTTP\/1.1 413 /);
  // Answers that nobody waits for.
  await Promise.all(Array.from({ length: 100 }, () => raw(text, text.length, 'destroy')));
  const garbage = await new Promise<string>((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('\x16\x03\x01 nonsense\r\n\r\n'));
    let answer = '';
    socket.on('data', (part) => {
      answer += part;
    });
    socket.on('close', () => resolve(answer));
  });
  expect(garbage).toMatch(/^HTTP\/1.1 400 /);
  await vi.waitFor(async () => {
    expect(await figures()).toMatchObject({ running: 0, waiting: 0, sequences: 0 });
  }, 60_000);
  expect((await post(`${served.url}/v1/completions`, good)).status).toBe(200);
});

test('a request that is sent too slowly is refused, and delays no other', async () => {
  const port = Number(new URL(served.url).port);
  const slow = Array.from(
    { length: 30 },
    () =>
      new Promise<string>((resolve) => {
        const socket = connect(port, '127.0.0.1', () =>
          socket.write('POST /v1/completions HTTP/1.1\r\nHost: 127'),
        );
        let answer = '';
        socket.on('data', (part) => {
          answer += part;
        });
        socket.on('close', () => resolve(answer));
      }),
  );
  expect((await post(`${served.url}/v1/completions`, good)).status).toBe(200);
  for (const answer of await Promise.all(slow)) expect(answer).toMatch(/^HTTP\/1.1 408 /);
  await vi.waitFor(async () => {
    expect(await figures()).toMatchObject({ running: 0, waiting: 0, sequences: 0 });
  }, 60_000);
}, 120_000);
