/** The server's behaviour: access control, limits, clients that disconnect, and shutdown. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020 as Ajv } from 'ajv/dist/2020.js';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { build, heddle } from './testing/heddle.js';
import { post, type Served, serve, writeTinyModel } from './testing/server.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-serve-manners-'));
const model = join(root, 'tiny');
const started: Served[] = [];
beforeAll(async () => {
  build();
  // Large enough that an answer takes its time, and long enough that it does not end by itself.
  await writeTinyModel(model, { change: { maxPositionEmbeddings: 100_000, eosTokenId: 299 } });
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((server) => server.stop()));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
async function start(...args: string[]): Promise<Served> {
  const data = join(root, `data-${folders++}`);
  const server = await serve([model, '--data', data, '--threads', '1', ...args]);
  started.push(server);
  return server;
}

const body = (more = {}) => ({ model: 'tiny', prompt: 'the cat', max_tokens: 4, seed: 1, ...more });
/** So long that it never ends while a test lasts. */
const endless = body({ max_tokens: 90_000, temperature: 0, stream: true });

async function metric({ url }: Served, name: string, headers: Record<string, string> = {}): Promise<number> {
  const text = await (await fetch(`${url}/metrics`, { headers })).text();
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1]);
}

const requestsOf = (server: Served) => server.log().filter(({ event }) => event === 'request');

/** Waits until something is so. */
const until = (check: () => Promise<void> | void) => vi.waitFor(check, { timeout: 60_000, interval: 20 });

describe('keys', () => {
  test('are required if there are any, and own their states', async () => {
    const keys = join(root, 'keys.json');
    const [ada, ben] = await Promise.all([heddle(['key', keys, 'ada'])]).then(async ([first]) => [
      first!.stdout.trim(),
      (await heddle(['key', keys, 'ben'])).stdout.trim(),
    ]);
    expect(readFileSync(keys, 'utf8')).not.toContain(ada);
    const server = await start('--keys', keys, '--host', '0.0.0.0');
    const url = server.url.replace('0.0.0.0', '127.0.0.1');
    const as = (key: string) => ({ authorization: `Bearer ${key}` });
    for (const headers of [{}, as('wrong'), as(`${ada}x`), { authorization: `Basic ${ada}` }]) {
      const refused = await post(`${url}/v1/completions`, body(), headers);
      expect(refused.status).toBe(401);
      expect(await refused.json()).toMatchObject({ error: { code: 'invalid_api_key' } });
      expect((await fetch(`${url}/metrics`, { headers })).status).toBe(401);
    }
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const saved = await post(`${url}/v1/states`, { prompt: 'the cat' }, as(ada!));
    expect(saved.status).toBe(201);
    const { id } = (await saved.json()) as { id: string };
    const seen = async (key: string) => (await fetch(`${url}/v1/states/${id}`, { headers: as(key) })).status;
    expect([await seen(ada!), await seen(ben!)]).toEqual([200, 404]);
    const taken = await post(`${url}/v1/completions`, body({ state: id }), as(ben!));
    expect(taken.status).toBe(404);
    expect(requestsOf(server).map(({ key }) => key)).toContain('ben');
  });

  test('without keys, requests to other addresses and host names are refused', async () => {
    await expect(start('--host', '0.0.0.0')).rejects.toThrow(/main\.js key/);
    const { url } = await start();
    const { port } = new URL(url);
    const socket = connect(Number(port), '127.0.0.1');
    socket.write('GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n');
    let answer = '';
    for await (const part of socket) answer += part;
    expect(answer).toMatch(/^HTTP\/1.1 403 /);
    expect(answer).toContain('forbidden_host');
  });

  test('may use a model, and download it only with --share-weights', async () => {
    const keys = join(root, 'keys-of-weights.json');
    const headers = { authorization: `Bearer ${(await heddle(['key', keys, 'ada'])).stdout.trim()}` };
    const files = async (...args: string[]) => {
      const { url } = await start('--keys', keys, ...args);
      return { url, answer: await fetch(`${url}/studio/api/models/tiny`, { headers }) };
    };
    const refused = (await files()).answer;
    expect(refused.status).toBe(403);
    expect(await refused.json()).toMatchObject({ error: { code: 'weights_not_shared' } });
    const { url, answer } = await files('--share-weights');
    expect((await fetch(`${url}/studio/api/models/tiny`)).status).toBe(401);
    const { folder } = (await answer.json()) as { folder: string };
    const weights = readFileSync(join(model, 'model.safetensors'));
    for (const method of ['HEAD', 'GET']) {
      const file = await fetch(`${url}${folder}model.safetensors`, { method, headers });
      expect(file.headers.get('content-length')).toBe(String(weights.length));
      const expected = method === 'GET' ? weights : Buffer.alloc(0);
      expect(Buffer.from(await file.arrayBuffer()).equals(expected)).toBe(true);
    }
  });

  test('have a rate limit and a concurrency limit', async () => {
    const server = await start('--key-rate', '4', '--key-concurrency', '1');
    const running = new AbortController();
    const stream = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(endless),
      signal: running.signal,
    });
    expect(stream.status).toBe(200);
    expect(stream.headers.get('x-ratelimit-limit-requests')).toBe('4');
    const second = await post(`${server.url}/v1/completions`, body());
    expect(second.status).toBe(429);
    expect(second.headers.get('retry-after')).toBe('1');
    expect(await second.json()).toMatchObject({
      error: { type: 'rate_limit_error', code: 'concurrency_limit_exceeded' },
    });
    running.abort();
    await until(async () => expect(await metric(server, 'heddle_answers_running')).toBe(0));
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await post(`${server.url}/v1/completions`, body())).status);
    expect(statuses).toEqual([200, 200, 200, 429]);
    const late = await post(`${server.url}/v1/completions`, body());
    expect(await late.json()).toMatchObject({ error: { code: 'rate_limit_exceeded' } });
    expect(Number(late.headers.get('retry-after'))).toBeGreaterThan(1);
  });
});

describe('limits', () => {
  test('of body sizes, content types and paths', async () => {
    const { url } = await start('--max-body', '1', '--answers', '2', '--waiting', '1', '--context', '200');
    const large = await post(`${url}/v1/completions`, body({ prompt: 'x'.repeat(2e6) }));
    expect([large.status, ((await large.json()) as { error: { code: string } }).error.code]).toEqual([
      413,
      'body_too_large',
    ]);
    const text = await fetch(`${url}/v1/completions`, { method: 'POST', body: JSON.stringify(body()) });
    expect(text.status).toBe(415);
    const long = await post(`${url}/v1/completions`, body({ prompt: 'the cat '.repeat(300) }));
    expect(await long.json()).toMatchObject({ error: { code: 'context_length_exceeded' } });
    // More answers than are written at once are written in turns, each with the seed that it would have otherwise.
    const many = await post(`${url}/v1/completions`, body({ n: 3, temperature: 1 }));
    const third = await post(`${url}/v1/completions`, body({ temperature: 1, seed: 3 }));
    const [{ choices }, alone] = (await Promise.all([many.json(), third.json()])) as {
      choices: { text: string }[];
    }[] as [{ choices: { text: string }[] }, { choices: { text: string }[] }];
    expect(choices).toHaveLength(3);
    expect(choices[2]!.text).toBe(alone.choices[0]!.text);
    const batch = await post(`${url}/v1/completions`, body({ prompt: Array(40).fill('the cat') }));
    expect(((await batch.json()) as { choices: unknown[] }).choices).toHaveLength(40);
    expect((await fetch(`${url}/nothing`)).status).toBe(404);
    for (const path of ['/api/chat', '/api/tags', '/v1/api/chat', '/v1/messages']) {
      const other = await post(`${url}${path}`, {});
      expect([other.status, await other.text()]).toEqual([
        404,
        expect.stringMatching('/v1/chat/completions'),
      ]);
    }
    for (const path of ['/v1/completions/', '//v1//completions', '/v1//completions/'])
      expect((await post(`${url}${path}`, body({ max_tokens: 1, model: '' }))).status).toBe(200);
    const wrong = await fetch(`${url}/v1/completions`);
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'POST']);
    const state = await fetch(`${url}/v1/states/one`, { method: 'PUT' });
    expect([state.status, state.headers.get('allow')]).toEqual([405, 'GET, PATCH, DELETE']);
    expect((await fetch(`${url}/v1/states/one/two`, { method: 'PUT' })).status).toBe(404);
    for (const path of ['/completions', '/v1/v1/completions']) {
      const told = (await (await post(`${url}${path}`, body())).json()) as { error: { message: string } };
      expect(told.error.message).toMatch(
        /: it is \/v1\/completions, so that the base URL of a client ends with \/v1/,
      );
    }
  });

  test('of the queue: waiting requests are answered, further ones refused', async () => {
    const server = await start('--answers', '1', '--waiting', '1');
    const running = new AbortController();
    const first = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(endless),
      signal: running.signal,
    });
    expect(first.status).toBe(200);
    const waiting = post(`${server.url}/v1/completions`, body());
    await until(async () => expect(await metric(server, 'heddle_requests_waiting')).toBe(1));
    const refused = await post(`${server.url}/v1/completions`, body());
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    running.abort();
    expect((await waiting).status).toBe(200);
  });

  test('of the queue: a waiting stream has its headers, unless it is refused', async () => {
    const server = await start('--answers', '1', '--waiting', '1');
    const running = new AbortController();
    const asked = (signal: AbortSignal) =>
      fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(endless),
        signal,
      });
    expect((await asked(running.signal)).status).toBe(200);
    const waiting = new AbortController();
    expect((await asked(waiting.signal)).status).toBe(200);
    await until(async () => expect(await metric(server, 'heddle_requests_waiting')).toBe(1));
    expect((await asked(new AbortController().signal)).status).toBe(503);
    waiting.abort();
    await until(async () => expect(await metric(server, 'heddle_requests_waiting')).toBe(0));
    running.abort();
    await until(async () => expect(await metric(server, 'heddle_sequences')).toBe(0));
  });

  test('of a batch: an invalid prompt ends all of its work', async () => {
    const server = await start('--answers', '2', '--context', '50');
    const prompt = [...Array(9).fill('the cat'), 'the cat '.repeat(300), ...Array(9).fill('the cat')];
    const refused = await post(`${server.url}/v1/completions`, body({ prompt }));
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      { error: { code: 'context_length_exceeded' } },
    ]);
    await until(async () => expect(await metric(server, 'heddle_sequences')).toBe(0));
    expect(await metric(server, 'heddle_requests_waiting')).toBe(0);
  });

  test('of time: an answer that takes too long ends with an error', async () => {
    const { url } = await start('--timeout', '1');
    const whole = await post(`${url}/v1/completions`, { ...endless, stream: false });
    expect([whole.status, await whole.json()]).toMatchObject([408, { error: { code: 'timeout' } }]);
    const streamed = await (await post(`${url}/v1/completions`, endless)).text();
    expect(streamed.trim().split('\n\n').at(-1)).toContain('"code":"timeout"');
  });
});

describe('clients that disconnect', () => {
  test.each(['streaming', 'waiting for all of it', 'choosing token by token'])(
    'free their places while %s',
    async (how) => {
      const server = await start();
      const leaving = Array.from({ length: 5 }, () => new AbortController());
      const asked = leaving.map(({ signal }) =>
        fetch(`${server.url}/v1/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({
            ...endless,
            stream: how === 'streaming',
            ...(how.startsWith('choosing') && { frequency_penalty: 1 }),
          }),
          signal,
        }).catch(() => undefined),
      );
      await until(async () => expect(await metric(server, 'heddle_answers_running')).toBe(5));
      if (how === 'streaming') await Promise.all(asked);
      for (const each of leaving) each.abort();
      await until(async () => expect(await metric(server, 'heddle_answers_running')).toBe(0));
      // Nothing goes on in secret: the engine itself has nothing to do.
      await until(async () => expect(await metric(server, 'heddle_sequences')).toBe(0));
      const next = await post(`${server.url}/v1/completions`, body());
      expect(next.status).toBe(200);
    },
  );
});

describe('a server that is told to stop', () => {
  test('finishes running answers, and accepts no new ones', async () => {
    const server = await start();
    const running = await post(
      `${server.url}/v1/completions`,
      body({ max_tokens: 3000, temperature: 0, stream: true }),
    );
    const reader = running.body!.getReader();
    const decoder = new TextDecoder();
    let text = decoder.decode((await reader.read()).value);
    const code = server.stop();
    await until(() => expect(server.log().map(({ event }) => event)).toContain('draining'));
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      text += decoder.decode(next.value);
    }
    expect(text).toContain('"finish_reason":"length"');
    expect(text.trimEnd().endsWith('data: [DONE]')).toBe(true);
    expect(await code).toBe(0);
  });

  test('ends answers that take longer than the drain time', async () => {
    const server = await start('--drain', '1');
    const running = await post(`${server.url}/v1/completions`, endless);
    const code = server.stop();
    expect((await running.text()).trim().split('\n\n').at(-1)).toContain('"code":"stopping"');
    expect(await code).toBe(0);
  });

  test('a port in use is reported', async () => {
    const { url } = await start();
    await expect(start('--port', new URL(url).port)).rejects.toThrow(/cannot listen/);
  });
});

describe('the log', () => {
  test('has requests without their texts', async () => {
    const server = await start();
    await post(`${server.url}/v1/completions`, body({ prompt: 'the dog sat on the log' }));
    await until(() => expect(requestsOf(server)).toHaveLength(1));
    const [entry] = requestsOf(server);
    expect(entry).toMatchObject({
      method: 'POST',
      path: '/v1/completions',
      status: 200,
      model: 'tiny',
      completion_tokens: 4,
    });
    expect(JSON.stringify(server.log())).not.toContain('dog');
  });

  test('has texts with --log-texts', async () => {
    const server = await start('--log-texts');
    const answer = await post(`${server.url}/v1/completions`, body({ prompt: 'the dog' }));
    const { choices } = (await answer.json()) as { choices: { text: string }[] };
    await until(() => expect(requestsOf(server)).toHaveLength(1));
    expect(requestsOf(server)[0]).toMatchObject({
      prompt: [{ kind: 'text', text: 'the dog' }],
      answers: [choices[0]!.text],
    });
  });
});

describe('the OpenAPI document', () => {
  test('describes the actual answers', async () => {
    const { url } = await start();
    const document = (await (await fetch(`${url}/openapi.json`)).json()) as {
      openapi: string;
      paths: Record<
        string,
        Record<string, { responses: Record<string, { content: Record<string, { schema: object }> }> }>
      >;
      components: object;
    };
    expect(document.openapi).toBe('3.1.0');
    const ajv = new Ajv({ strict: false });
    const check = async (path: string, method: string, answer: Response): Promise<void> => {
      const { responses } = document.paths[path]![method]!;
      const { schema } = (responses[answer.status] ?? responses.default)!.content['application/json']!;
      const validate = ajv.compile({ ...schema, components: document.components });
      const value = await answer.json();
      expect([path, answer.status, validate(value), validate.errors]).toEqual([
        path,
        answer.status,
        true,
        null,
      ]);
    };
    const chat = {
      model: 'tiny',
      messages: [{ role: 'user', content: 'the cat' }],
      max_tokens: 3,
      logprobs: true,
      save_state: true,
    };
    await check('/v1/models', 'get', await fetch(`${url}/v1/models`));
    await check('/v1/models/{model}', 'get', await fetch(`${url}/v1/models/tiny`));
    await check('/v1/chat/completions', 'post', await post(`${url}/v1/chat/completions`, chat));
    await check('/v1/chat/completions', 'post', await post(`${url}/v1/chat/completions`, {}));
    await check('/v1/completions', 'post', await post(`${url}/v1/completions`, body({ logprobs: 1, n: 2 })));
    await check('/v1/embeddings', 'post', await post(`${url}/v1/embeddings`, { input: 'the cat' }));
    const asked = { input: 'the cat', max_output_tokens: 3, temperature: 1, metadata: { a: 1 } };
    await check('/v1/responses', 'post', await post(`${url}/v1/responses`, asked));
    await check('/v1/responses', 'post', await post(`${url}/v1/responses`, { input: 3 }));
    const echoed = body({ echo: true, logprobs: 1, max_tokens: 0 });
    await check('/v1/completions', 'post', await post(`${url}/v1/completions`, echoed));
    await check('/v1/states', 'post', await post(`${url}/v1/states`, { prompt: 'the' }));
    await check('/v1/states', 'get', await fetch(`${url}/v1/states`));
    await check('/v1/states/{id}', 'get', await fetch(`${url}/v1/states/none`));
    await check('/healthz', 'get', await fetch(`${url}/healthz`));
    const sent = document.components as { schemas: Record<string, object> };
    expect(ajv.compile({ ...sent.schemas.ChatRequest, components: document.components })(chat)).toBe(true);
  });
});
