/** Models inside other programs: the unchanged examples of the documents, and pages of other origins. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { HeddleApp } from '../src/server/index.js';
import { CHATML } from '../src/text/testing/chat-templates.js';
import { build } from './testing/heddle.js';
import { writeScriptedModel } from './testing/scripted-model.js';
import { serve } from './testing/server.js';

const project = fileURLToPath(new URL('../', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'heddle-mounted-'));
const model = join(root, 'greeter');
const children: ChildProcess[] = [];

beforeAll(async () => {
  build();
  await writeScriptedModel(model, { user: 'Good morning, all of you.' }, CHATML);
});
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(root, { recursive: true, force: true });
});

const example = (name: string): string => join(project, 'examples', `${name}.mjs`);

/** Runs an example on a free port; resolves to the address that it prints. */
function run(name: string): Promise<string> {
  const child = spawn(process.execPath, [example(name), model, '0'], { cwd: root, stdio: 'pipe' });
  children.push(child);
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.stdout.setEncoding('utf8').on('data', (text: string) => resolve(text.trim()));
    child.on('exit', (code) => reject(new Error(`${name} ended with ${code}: ${said}`)));
  });
}

async function greets(openai: OpenAI): Promise<void> {
  const asked = { model: 'greeter', messages: [{ role: 'user' as const, content: 'hi' }], temperature: 0 };
  const { choices } = await openai.chat.completions.create(asked);
  expect(choices[0]!.message.content).toBe('Good morning, all of you.');
  const stream = openai.chat.completions.stream(asked);
  const pieces: string[] = [];
  for await (const chunk of stream) pieces.push(chunk.choices[0]?.delta.content ?? '');
  expect(pieces.join('')).toBe('Good morning, all of you.');
  expect(pieces.length).toBeGreaterThan(5);
  await expect(openai.models.retrieve('nobody')).rejects.toMatchObject({
    status: 404,
    code: 'model_not_found',
  });
}

const client = (baseURL: string, more = {}) =>
  new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0, ...more });

describe('the examples', () => {
  test.each(['serve-in-hono', 'serve-in-express', 'serve-in-next'])(
    '%s stands in the documents as it is',
    (name) => {
      expect(readFileSync(join(project, 'docs/serving.md'), 'utf8')).toContain(
        readFileSync(example(name), 'utf8'),
      );
    },
  );

  test.each(['serve-in-hono', 'serve-in-express'])('%s answers, whole and streamed', async (name) => {
    const url = await run(name);
    expect(url).toMatch(/^http:\/\/localhost:\d+\/ai\/v1$/);
    await greets(client(url));
    expect((await fetch(url.replace('/v1', '/healthz'))).status).toBe(200);
  });

  test('serve-in-next answers under its path', async () => {
    process.env.MODEL = model;
    const data = process.cwd();
    process.chdir(root);
    const route = (await import(pathToFileURL(example('serve-in-next')).href)) as Record<
      string,
      (request: Request) => Promise<Response>
    >;
    const fetch = async (url: string | URL | Request, init?: RequestInit): Promise<Response> => {
      const request = new Request(url, init);
      return route[request.method]!(request);
    };
    await greets(client('http://some.host/api/ai/v1', { fetch }));
    const app = (globalThis as unknown as { heddle: HeddleApp }).heddle;
    await app.close();
    process.chdir(data);
  });
});

test('models that cannot be loaded are reported by `ready` and in every answer', async () => {
  const { createApp } = (await import(pathToFileURL(join(project, 'dist/server/index.js')).href)) as {
    createApp: (model: string, options: object) => HeddleApp;
  };
  const app = createApp(join(root, 'nothing'), { data: join(root, 'data') });
  await expect(app.ready).rejects.toThrow(/nothing/);
  const answer = await app.fetch(new Request('http://x/v1/models'));
  expect([answer.status, await answer.json()]).toMatchObject([503, { error: { code: 'models_not_loaded' } }]);
  await app.close();
});

describe('pages of other origins', () => {
  const origin = 'http://localhost:3000';
  const preflight = (url: string, from: string): Promise<Response> =>
    fetch(`${url}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: {
        origin: from,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      },
    });
  const allowed = (answer: Response): string | null => answer.headers.get('access-control-allow-origin');

  test('may send requests if they are allowed, and see errors', async () => {
    const server = await serve([
      model,
      '--data',
      join(root, 'data-cors'),
      '--cors',
      `${origin}/`,
      '--cors',
      'https://b.example',
    ]);
    const first = await preflight(server.url, origin);
    expect([first.status, allowed(first)]).toEqual([204, origin]);
    expect(first.headers.get('access-control-allow-headers')).toContain('authorization');
    expect(allowed(await preflight(server.url, 'https://b.example'))).toBe('https://b.example');
    expect(allowed(await preflight(server.url, 'http://evil.example'))).toBeNull();
    for (const [body, status] of [
      ['{"messages": [{"role": "user", "content": "hi"}]}', 200],
      ['{"messages": [{"role": "user", "content": "hi"}], "stream": true}', 200],
      ['{}', 400],
    ] as const) {
      const answer = await fetch(`${server.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { origin, 'content-type': 'application/json' },
        body,
      });
      expect([answer.status, allowed(answer)]).toEqual([status, origin]);
      await answer.text();
    }
    await server.stop();
  });

  test('may not send requests otherwise', async () => {
    const server = await serve([model, '--data', join(root, 'data-none')]);
    expect(allowed(await preflight(server.url, origin))).toBeNull();
    await server.stop();
    await expect(serve([model, '--cors', 'localhost:3000'])).rejects.toThrow(/expected an origin/);
    await expect(serve([model, '--cors', 'http://localhost:3000/app'])).rejects.toThrow(/without a path/);
  });
});
