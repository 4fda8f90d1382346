/** States over HTTP: they are permanent, can be shared by servers, and a continued state gives the same as an uninterrupted one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CHATML } from '../src/text/testing/chat-templates.js';
import { build } from './testing/heddle.js';
import { hasRedis, startRedis } from './testing/redis.js';
import { post, type Served, type State, serve, writeTinyModel } from './testing/server.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-serve-states-'));
const started: Served[] = [];
beforeAll(async () => {
  build();
  await writeTinyModel(join(root, 'tiny'), { template: CHATML });
  await writeTinyModel(join(root, 'other'), { seed: 2 });
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((server) => server.stop()));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

async function start(
  data: string,
  args: string[] = [],
  environment: NodeJS.ProcessEnv = {},
): Promise<Served> {
  const models = [join(root, 'tiny'), join(root, 'other')];
  const server = await serve([...models, '--data', join(root, data), '--threads', '1', ...args], environment);
  started.push(server);
  return server;
}

interface Answer {
  choices: { message: { content: string } }[];
  usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
  heddle: { state?: State; reused_tokens: number; read_tokens: number; state_bytes: number };
}

async function json<T>(response: Promise<Response>, status = 200): Promise<T> {
  const answer = await response;
  const body = await answer.json();
  expect([answer.status, body]).toEqual([status, body]);
  return body as T;
}

const user = (content: string) => ({ role: 'user', content });
const chat = (messages: unknown[], more = {}) => ({
  model: 'tiny',
  messages,
  max_tokens: 10,
  seed: 5,
  ...more,
});

async function say({ url }: Served, messages: unknown[], more = {}): Promise<Answer> {
  return json<Answer>(post(`${url}/v1/chat/completions`, chat(messages, more)));
}

describe('states', () => {
  test('a conversation continues from a state as if it had been sent whole, and processes only new tokens', async () => {
    const server = await start('on');
    const first = await say(server, [user('the cat sat on the mat')], {
      save_state: true,
      state_name: 'cats',
    });
    const { state } = first.heddle;
    expect(state).toMatchObject({ name: 'cats', parent: null, object: 'state', model: 'tiny' });
    const answer = { role: 'assistant', content: first.choices[0]!.message.content };
    const whole = await say(server, [user('the cat sat on the mat'), answer, user('and the dog?')]);
    const second = await say(server, [user('and the dog?')], { state: state!.id, save_state: true });
    expect(second.choices[0]!.message.content).toBe(whole.choices[0]!.message.content);
    expect(second.usage.prompt_tokens).toBe(whole.usage.prompt_tokens);
    expect(second.heddle.reused_tokens).toBeGreaterThanOrEqual(state!.tokens);
    expect(second.heddle.reused_tokens + second.heddle.read_tokens).toBe(second.usage.prompt_tokens);
    expect(second.heddle.state!.parent).toBe(state!.id);
    const kept = await json<{ messages: unknown[] }>(
      fetch(`${server.url}/v1/states/${second.heddle.state!.id}`),
    );
    expect(kept.messages).toHaveLength(4);
  });

  test('a document is processed once, and asked about several times', async () => {
    const server = await start('document', ['--cache-memory', '0']);
    const prompt = 'the dog sat on the log, and all that they said was that it was so. '.repeat(20);
    const state = await json<State>(
      post(`${server.url}/v1/states`, { model: 'tiny', prompt, name: 'dogs' }),
      201,
    );
    expect(state.tokens).toBeGreaterThan(256);
    const { heddle, usage } = await say(server, [user('who sat?')], { state: state.id });
    expect(heddle.reused_tokens).toBe(state.tokens);
    expect(usage.prompt_tokens_details.cached_tokens).toBe(state.tokens);
    const more = await json<State>(
      post(`${server.url}/v1/states`, { from: state.id, prompt: 'the end' }),
      201,
    );
    expect(more.parent).toBe(state.id);
    expect(more.tokens).toBeGreaterThan(state.tokens);
    const completion = { model: 'tiny', prompt: ' the', state: more.id, save_state: true, max_tokens: 3 };
    const went = await json<Answer>(post(`${server.url}/v1/completions`, completion));
    expect(went.heddle.reused_tokens).toBe(more.tokens);
    expect(went.heddle.state!.tokens).toBeGreaterThan(more.tokens);
  });

  test('states are listed, forked, named and deleted', async () => {
    const { url } = await start('manage');
    const state = await json<State>(
      post(`${url}/v1/states`, { model: 'tiny', messages: [user('hello')] }),
      201,
    );
    const fork = await json<State>(post(`${url}/v1/states/${state.id}/fork`, { name: 'second' }), 201);
    const same = await json<State>(post(`${url}/v1/states`, { from: state.id }), 201);
    expect(fork).toMatchObject({ parent: state.id, name: 'second', tokens: state.tokens });
    const renamed = await json<State>(
      fetch(`${url}/v1/states/${fork.id}`, {
        method: 'PATCH',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name: 'other' }),
      }),
    );
    expect(renamed.name).toBe('other');
    const list = async () =>
      (await json<{ data: State[] }>(fetch(`${url}/v1/states`))).data.map(({ id }) => id);
    expect(new Set(await list())).toEqual(new Set([state.id, fork.id, same.id]));
    const gone = await json(fetch(`${url}/v1/states/${state.id}`, { method: 'DELETE' }));
    expect(gone).toEqual({ id: state.id, object: 'state', deleted: true });
    await json(fetch(`${url}/v1/states/${state.id}`), 404);
    await json(fetch(`${url}/v1/states/${state.id}`, { method: 'DELETE' }), 404);
    expect(new Set(await list())).toEqual(new Set([fork.id, same.id]));
    // A fork outlives what it came from.
    await json(post(`${url}/v1/chat/completions`, chat([user('and?')], { state: fork.id })));
  });

  test('fields of other servers are ignored, as in a chat; misspelled and wrong ones are refused', async () => {
    const { url } = await start('fields');
    const foreign = { user: 'ann', metadata: { a: 1 }, stream: false, temperature: 1, extra: null };
    const made = await json<State>(
      post(`${url}/v1/states`, { model: 'tiny', prompt: 'the cat', ...foreign }),
      201,
    );
    await json(post(`${url}/v1/states/${made.id}/fork`, { name: 'two', ...foreign }), 201);
    const wrong = async (body: object): Promise<string> =>
      (await json<{ error: { message: string } }>(post(`${url}/v1/states`, body), 400)).error.message;
    expect(await wrong({ model: 'tiny', prompts: 'the cat' })).toMatch(/give messages, a prompt, or a state/);
    expect(await wrong({ model: 'tiny', mesages: [user('a')] })).toMatch(
      /the parameter 'mesages' does not exist: write 'messages'/,
    );
    expect(await wrong({ model: 'tiny', prompt: '' })).toBe(
      "'prompt' is not what it should be: expected at least 1 character, and it is empty",
    );
    expect(await wrong({ model: 'tiny', messages: 5 })).toBe(
      "'messages' is not what it should be: expected a list, and it is 5",
    );
  });

  test('a state of another model is refused', async () => {
    const { url } = await start('another');
    const state = await json<State>(post(`${url}/v1/states`, { model: 'other', prompt: 'the cat' }), 201);
    const refused = await post(`${url}/v1/chat/completions`, chat([user('and?')], { state: state.id }));
    expect(refused.status).toBe(400);
    expect(await refused.text()).toContain('another');
  });

  test('saved states survive SIGKILL', async () => {
    const before = await start('killed');
    const { heddle } = await say(before, [user('the cat sat on the mat')], { save_state: true });
    await before.stop('SIGKILL');
    const after = await start('killed');
    const listed = await json<{ data: State[] }>(fetch(`${after.url}/v1/states`));
    expect(listed.data).toEqual([heddle.state]);
    const { usage } = await say(after, [user('and?')], { state: heddle.state!.id });
    expect(usage.prompt_tokens_details.cached_tokens).toBe(heddle.state!.tokens);
  });

  test('the prefix cache survives a restart', async () => {
    const messages = [user('the cat sat on the mat and the dog sat on the log')];
    const before = await start('restarted');
    const first = await say(before, messages);
    expect(first.usage.prompt_tokens_details.cached_tokens).toBe(0);
    await before.stop();
    const again = await say(await start('restarted'), messages);
    expect(again.usage.prompt_tokens_details.cached_tokens).toBe(again.usage.prompt_tokens);
    expect(again.choices).toEqual(first.choices);
  });

  test('two servers share a folder', async () => {
    const place = ['--states', join(root, 'shared-states')];
    const [one, two] = await Promise.all([start('one', place), start('two', place)]);
    await proveShared(one, two);
  });
});

/** A conversation begun with one server goes on with another. */
async function proveShared(one: Served, two: Served): Promise<void> {
  const first = await say(one, [user('the cat sat on the mat')], { save_state: true });
  const { state } = first.heddle;
  const there = await say(two, [user('and the dog?')], { state: state!.id, save_state: true });
  const here = await say(one, [user('and the dog?')], { state: state!.id });
  expect(there.choices[0]!.message.content).toBe(here.choices[0]!.message.content);
  expect(there.heddle.reused_tokens).toBe(state!.tokens);
  const back = await say(one, [user('so?')], { state: there.heddle.state!.id });
  expect(back.heddle.reused_tokens).toBeGreaterThanOrEqual(there.heddle.state!.tokens);
  await json(fetch(`${two.url}/v1/states/${state!.id}`, { method: 'DELETE' }));
  await json(fetch(`${one.url}/v1/states/${state!.id}`), 404);
  const list = await json<{ data: State[] }>(fetch(`${one.url}/v1/states`));
  expect(list.data.map(({ id }) => id)).toEqual([there.heddle.state!.id]);
}

describe.skipIf(!hasRedis)('a store in Redis (skipped where there is no redis-server)', () => {
  let url: string;
  let stop: () => Promise<void>;
  beforeAll(async () => {
    ({ url, stop } = await startRedis());
  });
  afterAll(() => stop());

  test('two servers share it', async () => {
    const [one, two] = await Promise.all([start('r1', ['--states', url]), start('r2', ['--states', url])]);
    await proveShared(one, two);
  });

  test('a missing store is reported', async () => {
    const server = await start('r3', ['--states', 'redis://127.0.0.1:1/0']);
    const answer = await fetch(`${server.url}/v1/states`);
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ error: { code: 'store_unavailable' } });
  });
});

describe('a store in S3', () => {
  const objects = new Map<string, Buffer>();
  const unsigned: string[] = [];
  /** As much of S3 as is needed: objects under their paths, listed two a page. */
  const s3 = createServer((request, response) => {
    const url = new URL(request.url!, 'http://s3');
    if (
      !/^AWS4-HMAC-SHA256 Credential=me\/\d{8}\/here\/s3\/aws4_request/.test(
        request.headers.authorization ?? '',
      )
    ) {
      unsigned.push(request.url!);
    }
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const path = decodeURIComponent(url.pathname);
      const found = objects.get(path);
      const copied = request.headers['x-amz-copy-source'] as string | undefined;
      if (url.searchParams.get('list-type') === '2') {
        const prefix = `/bucket/${url.searchParams.get('prefix')}`;
        const keys = [...objects.keys()].filter((key) => key.startsWith(prefix)).sort();
        const from = Number(url.searchParams.get('continuation-token') ?? 0);
        const more =
          from + 2 < keys.length ? `<NextContinuationToken>${from + 2}</NextContinuationToken>` : '';
        const rows = keys
          .slice(from, from + 2)
          .map((key) => `<Contents><Key>${key.slice(8)}</Key></Contents>`);
        return response.end(`<ListBucketResult>${rows.join('')}${more}</ListBucketResult>`);
      }
      if (request.method === 'PUT') {
        const bytes = copied === undefined ? Buffer.concat(parts) : objects.get(decodeURIComponent(copied));
        if (bytes) objects.set(path, bytes);
        response.statusCode = bytes ? 200 : 404;
        return response.end();
      }
      if (request.method === 'DELETE') objects.delete(path);
      response.statusCode = found || request.method === 'DELETE' ? 200 : 404;
      return response.end(request.method === 'GET' ? found : undefined);
    });
  });
  let states: string;
  beforeAll(async () => {
    await new Promise<void>((resolve) => s3.listen(0, '127.0.0.1', resolve));
    const endpoint = `http://127.0.0.1:${(s3.address() as AddressInfo).port}`;
    states = `s3://bucket/some/where?endpoint=${endpoint}&region=here`;
  });
  afterAll(() => s3.close());
  const secrets = { AWS_ACCESS_KEY_ID: 'me', AWS_SECRET_ACCESS_KEY: 'secret' };

  test('two servers share it', async () => {
    const place = ['--states', states];
    const [one, two] = await Promise.all([start('s1', place, secrets), start('s2', place, secrets)]);
    await proveShared(one, two);
    const { id } = await json<State>(post(`${one.url}/v1/states`, { model: 'tiny', prompt: 'the cat' }), 201);
    const forks = await Promise.all(
      Array.from({ length: 4 }, () => json<State>(post(`${two.url}/v1/states/${id}/fork`, {}), 201)),
    );
    const { data } = await json<{ data: State[] }>(fetch(`${one.url}/v1/states`));
    expect(data.map((state) => state.id)).toEqual(
      expect.arrayContaining([id, ...forks.map((fork) => fork.id)]),
    );
    expect(unsigned).toEqual([]);
  });

  test('needs credentials', async () => {
    const without = serve([join(root, 'tiny'), '--states', states], { AWS_ACCESS_KEY_ID: '' });
    await expect(without).rejects.toThrow(/AWS_ACCESS_KEY_ID/);
  });
});
