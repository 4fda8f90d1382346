/** The built command writes nothing outside of its own folders: ONNX Runtime's telemetry would write there, and send it. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { TINY_TEXT } from '../src/text/testing/tiny.js';
import { build } from './testing/heddle.js';
import { post, serve, writeTinyModel } from './testing/server.js';

const command = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

let here: string;
beforeAll(build);
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-privacy-'));
  for (const folder of ['home', 'temporary']) mkdirSync(join(here, folder));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

/** The environment of a person's terminal: on machines for tests, which its variables tell, ONNX Runtime sends nothing. */
function bare(): NodeJS.ProcessEnv {
  const none = Object.fromEntries(Object.keys(process.env).map((name) => [name, undefined]));
  return { ...none, PATH: process.env.PATH, HOME: join(here, 'home'), TMPDIR: join(here, 'temporary') };
}

function traces(): string[] {
  const files = ['home', 'temporary'].flatMap((folder) =>
    readdirSync(join(here, folder), { recursive: true, encoding: 'utf8' }),
  );
  return files.filter((file) => /onnxruntime\.db|deviceid|mat-debug/i.test(file));
}

test('training sends nothing to the maker of ONNX Runtime', () => {
  const text = join(here, 'text.txt');
  writeFileSync(text, TINY_TEXT.repeat(150));
  const args = ['train', text, '--size', 'nano', '--steps', '1', '--batch', '2', '--device', 'cpu'];
  const { status, stderr } = spawnSync(process.execPath, [command, ...args, '--out', join(here, 'run')], {
    encoding: 'utf8',
    env: bare(),
  });
  expect(status, stderr).toBe(0);
  expect(traces()).toEqual([]);
});

test('nor does a server, whose models run in another thread', async () => {
  await writeTinyModel(join(here, 'tiny'));
  const server = await serve([join(here, 'tiny'), '--data', join(here, 'data'), '--device', 'cpu'], bare());
  try {
    const prompt = TINY_TEXT.repeat(4);
    const answer = await post(`${server.url}/v1/completions`, {
      model: 'tiny',
      prompt,
      max_tokens: 1,
      seed: 1,
    });
    expect(answer.status).toBe(200);
  } finally {
    await server.stop();
  }
  expect(traces()).toEqual([]);
});
