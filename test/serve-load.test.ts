/** Many requests at once: each gets the same answer as alone, none waits for a long one, and no memory is leaked. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { Random } from '../src/nn/index.js';
import { CHATML } from '../src/text/testing/chat-templates.js';
import { build } from './testing/heddle.js';
import { post, type Served, serve, writeTinyModel } from './testing/server.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-serve-load-'));
const started: Served[] = [];
beforeAll(async () => {
  build();
  await writeTinyModel(join(root, 'tiny'), { template: CHATML, change: { maxPositionEmbeddings: 200_000 } });
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((server) => server.stop()));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
async function start(...args: string[]): Promise<Served> {
  const data = join(root, `data-${folders++}`);
  const server = await serve([join(root, 'tiny'), '--data', data, '--threads', '1', ...args]);
  started.push(server);
  return server;
}

interface Sent {
  readonly path: '/v1/chat/completions' | '/v1/completions';
  readonly body: Record<string, unknown>;
}

/** Requests of all kinds, lengths and manners. */
function mixed(seed: number): Sent {
  const random = new Random(seed);
  const words = ['the cat', ' sat on', ' the mat', ', and', ' the dog', ' on the log', ' was so', '. they'];
  const text = Array.from(
    { length: 1 + random.below(random.below(10) === 0 ? 300 : 20) },
    () => words[random.below(8)],
  ).join('');
  const common = {
    model: 'tiny',
    seed,
    max_tokens: 1 + random.below(60),
    temperature: [0, 0.7, 1.2][random.below(3)],
    top_p: [1, 0.9][random.below(2)],
    stream: random.below(2) === 0,
    ...(random.below(4) === 0 && { n: 2 }),
    ...(random.below(5) === 0 && { stop: ['at', 'z'] }),
    ...(random.below(5) === 0 && { repetition_penalty: 1.2 }),
    ...(random.below(6) === 0 && { presence_penalty: 0.5 }),
  };
  if (random.below(2) === 0) return { path: '/v1/completions', body: { ...common, prompt: text } };
  const format = random.below(4) === 0 && { response_format: { type: 'json_object' } };
  return {
    path: '/v1/chat/completions',
    body: { ...common, messages: [{ role: 'user', content: text }], ...format },
  };
}

interface Piece {
  choices: { index: number; text?: string; message?: { content: string }; delta?: { content?: string } }[];
}

/** The texts of an answer. */
async function textsOf({ url }: Served, { path, body }: Sent): Promise<string[]> {
  const answer = await post(`${url}${path}`, body);
  const raw = await answer.text();
  expect([answer.status, raw.includes('"error"')]).toEqual([200, false]);
  const pieces = body.stream
    ? raw
        .split('\n\n')
        .flatMap((event) => (/^data: \{/.test(event) ? [JSON.parse(event.slice(6)) as Piece] : []))
    : [JSON.parse(raw) as Piece];
  const texts: string[] = [];
  for (const { index, text, message, delta } of pieces.flatMap(({ choices }) => choices)) {
    texts[index] = (texts[index] ?? '') + (text ?? message?.content ?? delta?.content ?? '');
  }
  return texts;
}

async function figure({ url }: Served, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)![1]);
}

test('each request of a mixed load gets the same text as alone', async () => {
  const requests = Array.from({ length: 80 }, (_, seed) => mixed(seed));
  const alone = await start();
  const expected: string[][] = [];
  for (const request of requests) expected.push(await textsOf(alone, request));
  const loaded = await start('--answers', '40');
  const answers = await Promise.all(requests.map((request) => textsOf(loaded, request)));
  expect(answers).toEqual(expected);
  expect(await figure(loaded, 'heddle_sequences')).toBe(0);
});

test('a short request is answered while long prompts are processed', async () => {
  const server = await start();
  const order: string[] = [];
  const ask = async (name: string, prompt: number[]): Promise<void> => {
    const answer = await post(`${server.url}/v1/completions`, {
      model: 'tiny',
      prompt,
      max_tokens: 4,
      seed: 1,
    });
    expect(answer.status).toBe(200);
    order.push(name);
  };
  const long = [1, 2, 3].map((first) =>
    ask(
      'long',
      Array.from({ length: 10_000 }, (_, i) => first + (i % 290)),
    ),
  );
  await vi.waitFor(async () => expect(await figure(server, 'heddle_sequences')).toBe(3), 60_000);
  await ask('short', [5, 6, 7]);
  await Promise.all(long);
  expect(order[0]).toBe('short');
});

test('the benchmark measures a server and prints the results', () => {
  const plan = ['--clients', '1,3', '--rounds', '2', '--prompt', '80', '--answer', '5', '--soak', '1'];
  const model = join(root, 'tiny');
  const command = ['dist/bench/main.js', 'serve', '--threads', '1', '--model', model, ...plan];
  const { status, stdout } = spawnSync(process.execPath, command, { encoding: 'utf8' });
  expect(status).toBe(0);
  const rows = stdout.split('\n').filter((line) => /^ {2}[13] /.test(line));
  expect(rows).toHaveLength(4);
  // Only what begins alike is reused.
  expect(rows.map((row) => !row.includes(' 0.0 %'))).toEqual([false, false, expect.any(Boolean), true]);
  expect(stdout).toMatch(/soak: \d+ answers/);
});

test('the server responds while it computes, and its memory does not grow', async () => {
  const server = await start('--cache-memory', '4');
  const random = new Random(1);
  let residents: number[] = [];
  for (let round = 0; round < 6; round++) {
    const load = Promise.all(Array.from({ length: 60 }, () => textsOf(server, mixed(random.below(2 ** 31)))));
    let ended = false;
    void load.then(() => {
      ended = true;
    });
    const healths: string[] = [];
    while (!ended) {
      const answer = await fetch(`${server.url}/healthz`);
      const { status } = (await answer.json()) as { status: string };
      healths.push(`${answer.status} ${status}`);
    }
    // A machine that is busy with other work can make the engine's thread respond late, though not always.
    expect(healths).toContain('200 ok');
    expect([...new Set(healths)].filter((health) => health !== '200 ok')).toEqual(
      healths.includes('503 unresponsive') ? ['503 unresponsive'] : [],
    );
    await load;
    residents = [...residents, await figure(server, 'process_resident_memory_bytes')];
  }
  // V8's heap is still growing into its size, by 45 to 65 MB; half an MB kept of each answer would be twice that. How it is in the
  // long run the benchmark's soak tells.
  const [, , early] = residents;
  expect(residents.at(-1)! - early!).toBeLessThan(120e6);
});
