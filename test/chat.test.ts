/** `heddle chat` and its commands. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hybridModel, writeModel } from '../src/models/index.js';
import { tinyConfig, tinyWeights } from '../src/models/testing/tiny.js';
import { tinyTokenizer } from '../src/text/testing/tiny.js';
import { build } from './testing/heddle.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-chat-command-'));
const command = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

beforeAll(async () => {
  build();
  mkdirSync(join(root, 'model'));
  const model = hybridModel(tinyConfig());
  await writeModel(join(root, 'model'), model, tinyWeights(model, 1));
  await tinyTokenizer.save(join(root, 'model'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** What it answers to lines, one for each answer, and what it says besides. */
async function chat(
  lines: readonly string[],
  options: readonly string[] = [],
): Promise<{ answers: string[]; said: string }> {
  const args = [command, 'chat', join(root, 'model'), '--max-tokens', '6', '--seed', '3', ...options];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let stdout = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  child.stdin.end(lines.map((line) => `${line}\n`).join(''));
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect(code, said).toBe(0);
  return { answers: stdout.split('\n').slice(0, -1), said };
}

test('/regenerate gives another answer to the last line, and /edit answers as if the new line had been said', async () => {
  const plain = await chat(['the cat', 'the dog']);
  expect(plain.answers).toHaveLength(2);
  const again = await chat(['the cat', '/regenerate', '/regenerate']);
  expect(again.answers[0]).toBe(plain.answers[0]);
  expect(new Set(again.answers).size).toBe(3);
  const other = await chat(['the cat'], ['--seed', '4']);
  expect(again.answers[1]).toBe(other.answers[0]);
  const edited = await chat(['a mat', 'and so', '/edit 1 the cat', 'the dog']);
  expect(edited.answers.slice(2)).toEqual(plain.answers);
});

test('/reset starts a new conversation, and unknown commands are reported', async () => {
  const plain = await chat(['the cat']);
  const { answers, said } = await chat(['the dog', '/reset', 'the cat', '/edit 2 no', '/what']);
  expect(answers[1]).toBe(plain.answers[0]);
  expect(answers).toHaveLength(2);
  expect(said).toContain('Turns so far: 1.');
  expect(said).toContain('/regenerate');
  expect(said).toContain(
    'there is no command /what: a text that begins like one is said with a space before it',
  );
  expect(said).toContain('expected /edit <n> <text>, with n from 1 to 1');
});

test('an unknown command, in any letters, is not sent to the model', async () => {
  const { answers, said } = await chat(['/regenerate', '/NOPE now', '/re-do', ' /nope', '/home/ann']);
  expect(said).toContain('there is no answer yet');
  expect(said).toContain('there is no command /NOPE');
  expect(said).toContain('there is no command /re-do');
  expect(said).not.toContain('there is no command /nope');
  expect(answers).toHaveLength(2);
});

test('a model is quantized while it is loaded', async () => {
  for (const bits of ['int8', 'int8,S=32']) {
    const { answers } = await chat(['the cat'], ['--quantize', bits]);
    expect(answers).toHaveLength(1);
  }
});
