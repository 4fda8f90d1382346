/**
 * `heddle read` and the commands that continue from its state: the state is that of the text, interruptions leave nothing, and processes that
 * are killed, or share a folder, damage no file and no answer.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type LanguageModel, loadModel, loadSnapshot } from '../src/generate/index.js';
import { hybridModel, writeModel } from '../src/models/index.js';
import { tinyConfig, tinyWeights } from '../src/models/testing/tiny.js';
import { Random } from '../src/nn/index.js';
import { CHATML } from '../src/text/testing/chat-templates.js';
import { tinyTokenizer } from '../src/text/testing/tiny.js';
import { build, heddle, type Outcome } from './testing/heddle.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-read-command-'));
const modelFolder = join(root, 'model');
const otherFolder = join(root, 'other');
let language: LanguageModel;

async function writeTiny(folder: string, seed: number): Promise<void> {
  mkdirSync(folder);
  const model = hybridModel(tinyConfig());
  await writeModel(folder, model, tinyWeights(model, seed));
  await tinyTokenizer.save(folder);
}

beforeAll(async () => {
  build();
  await writeTiny(modelFolder, 1);
  await writeTiny(otherFolder, 2);
  language = await loadModel(modelFolder, { threads: 1 });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(root, 'here-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

/** Writes a file here and returns its path. */
function file(name: string, content: string | Uint8Array): string {
  const path = join(here, name);
  writeFileSync(path, content);
  return path;
}

const TEXT = 'the cat sat on the mat, and the dog sat on the cat.\n';
const saved = (): string => join(here, 'book.state');
const read = (...args: string[]): Promise<Outcome> =>
  heddle(['read', modelFolder, ...args, '--threads', '1']);

/** Exit code 1 and one line that says what is wrong; nothing was written. */
function expectRefusal({ code, stdout, stderr }: Outcome, ...parts: string[]): void {
  for (const part of parts) expect(stderr).toContain(part);
  expect(stderr).toMatch(/^heddle: .*\n$/);
  expect(stdout).toBe('');
  expect(code).toBe(1);
  expect(readdirSync(here).filter((name) => name.includes('heddle-tmp'))).toEqual([]);
}

/** A talk in the terminal. */
function chat(input: string, ...args: string[]): { stdout: string; stderr: string } {
  const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
  return spawnSync(process.execPath, [main, 'chat', ...args, '--threads', '1'], { input, encoding: 'utf8' });
}

describe('reading', () => {
  test('saves the state after all texts, in order', async () => {
    const [one, two] = [TEXT.repeat(80), '# Later\n\nthe mat was red\n'];
    const { code, stdout, stderr } = await read(file('z.txt', one), file('a.md', two), '--save', saved());
    expect(stderr).toMatch(
      /^reading 2 texts, 4185 characters\nread [\d,]+ tokens of 2 texts in .*, state .* in .*\nnext: /,
    );
    expect([code, stdout]).toEqual([0, '']);
    const session = language.session();
    const ids = [...language.tokenizer.encode(one), ...language.tokenizer.encode(`\n\n${two}`)];
    expect(ids.length).toBeGreaterThan(512);
    await session.read(language.tokenizer.encode(one));
    await session.read(language.tokenizer.encode(`\n\n${two}`));
    expect((await loadSnapshot(saved(), language)).tokens).toEqual(ids);
    const again = join(here, 'again.state');
    await (await session.snapshot()).save(again);
    expect(readFileSync(saved()).equals(readFileSync(again))).toBe(true);
  });

  test('is continued by generate as if the text had just been read', async () => {
    await read(file('a.txt', TEXT), '--save', saved());
    const options = ['--temperature', '0', '--max-tokens', '12', '--threads', '1'];
    const whole = await heddle(['generate', modelFolder, '--prompt', `${TEXT}the mat`, ...options]);
    const after = await heddle([
      'generate',
      modelFolder,
      '--state',
      saved(),
      '--prompt',
      'the mat',
      ...options,
    ]);
    expect(`${TEXT}${after.stdout}`).toBe(whole.stdout);
    expect(after.stderr).toMatch(/^read [23] tokens .*wrote \d+/);
    // Without a prompt it goes on at once.
    const alone = await heddle(['generate', modelFolder, '--state', saved(), ...options]);
    const plain = await heddle(['generate', modelFolder, '--prompt', TEXT, ...options]);
    expect(`${TEXT}${alone.stdout}`).toBe(plain.stdout);
    expect(alone.stderr).toMatch(/^wrote \d+/);
  });

  test('is continued by chat, and can be returned to', async () => {
    await read(file('a.txt', TEXT), '--save', saved());
    const count = language.tokenizer.encode(TEXT).length;
    const args = ['--state', saved(), '--max-tokens', '5', '--seed', '1'];
    const bare = chat('the dog\n/reset\nthe dog\n', modelFolder, ...args);
    expect(bare.stderr).toContain(`(after the ${count} tokens of ${saved()})`);
    expect(bare.stderr.match(new RegExp(`reused ${count} tokens`, 'g'))).toHaveLength(2);
    // By the same seed the same answer twice.
    const half = bare.stdout.length / 2;
    expect(bare.stdout.slice(half)).toBe(bare.stdout.slice(0, half));
    expect(half).toBeGreaterThan(1);
    const template = join(modelFolder, 'chat_template.jinja');
    writeFileSync(template, CHATML);
    try {
      const templated = chat('Hi!\n/reset\nHi!\n', modelFolder, ...args);
      expect(templated.stderr).toContain(`reused ${count} tokens`);
      expect(templated.stderr).toContain('It answers you.');
    } finally {
      rmSync(template);
    }
  });
});

describe('refuses', () => {
  test('files that are not text', async () => {
    expectRefusal(await read(join(here, 'none.txt'), '--save', saved()), 'none.txt cannot be read');
    expectRefusal(await read(file('e.txt', '  \n'), '--save', saved()), 'e.txt has no text in it');
    const binary = file('b.txt', Uint8Array.of(0xff, 0xfe, 0));
    expectRefusal(await read(file('a.txt', TEXT), binary, '--save', saved()), 'b.txt', 'UTF-8');
    expect(existsSync(saved())).toBe(false);
  });

  test('an output path that cannot be written, before it reads', async () => {
    const text = file('a.txt', TEXT);
    expectRefusal(
      await read(text, '--save', join(here, 'none', 'a.state')),
      'Could not write',
      'a folder on the way',
    );
    expectRefusal(
      await read(text, '--save', join(text, 'a.state')),
      'Could not write',
      'a file stands where a folder is needed',
    );
    expectRefusal(await read(text, '--save', here), `Could not write ${here}: something that is no file`);
  });

  test('a damaged state, and one of another model', async () => {
    await read(file('a.txt', TEXT), '--save', saved());
    const go = (command: string, folder: string, state: string) =>
      heddle([command, folder, '--state', state, '--threads', '1']);
    const bytes = readFileSync(saved());
    expectRefusal(await go('chat', otherFolder, saved()), `${saved()} is the state of another heddle model`);
    expectRefusal(await go('generate', modelFolder, join(here, 'none.state')), 'none.state does not exist');
    expectRefusal(await go('chat', modelFolder, file('cut.state', bytes.subarray(0, 999))), 'cut.state');
    bytes[bytes.length - 1]! ^= 1;
    expectRefusal(await go('generate', modelFolder, file('bad.state', bytes)), 'bad.state is damaged');
  });
});

test('Ctrl-C saves nothing, and an earlier file is kept', async () => {
  const long = file('long.txt', TEXT.repeat(60_000));
  await read(file('a.txt', TEXT), '--save', saved());
  const before = readFileSync(saved());
  const { code } = await heddle(
    ['read', modelFolder, long, '--save', saved(), '--threads', '1'],
    (stderr, child) => {
      if (stderr.includes('reading long.txt')) child.kill('SIGINT');
    },
  );
  expect(code).toBe(130);
  expect(readFileSync(saved()).equals(before)).toBe(true);
  expect(readdirSync(here).sort()).toEqual(['a.txt', 'book.state', 'long.txt']);
});

/** Another process that runs this module, with `heddle` the built library and its first arguments in `args`. */
function inProcess(script: string, ...args: string[]): ChildProcess {
  const library = new URL('../dist/index.js', import.meta.url);
  const prelude = `import * as heddle from ${JSON.stringify(library)}; const args = process.argv.slice(1);\n`;
  return spawn(process.execPath, ['--input-type=module', '--eval', prelude + script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Waits until the process has said `lines` lines, or has ended. */
async function said(child: ChildProcess, lines: number): Promise<void> {
  let seen = 0;
  for await (const chunk of child.stdout!) {
    seen += String(chunk).split('\n').length - 1;
    if (seen >= lines) return;
  }
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode);
    else child.on('exit', (code) => resolve(code));
  });

test('a process that is killed while saving leaves a complete state', async () => {
  const random = new Random(1);
  const texts = [TEXT, 'the mat'];
  for (let round = 0; round < 4; round++) {
    const child = inProcess(
      `
      const model = await heddle.loadModel(args[0], { threads: 1 });
      const states = [];
      for (const text of ${JSON.stringify(texts)}) {
        const session = model.session();
        await session.read(text);
        states.push(await session.snapshot());
      }
      for (let i = 0; ; i++) {
        await states[i % 2].save(args[1]);
        process.stdout.write('saved\\n');
      }`,
      modelFolder,
      saved(),
    );
    await said(child, 1 + random.below(20));
    child.kill('SIGKILL');
    expect(await ended(child)).toBeNull();
    const { tokens } = await loadSnapshot(saved(), language);
    expect(texts.map((text) => language.tokenizer.encode(text))).toContainEqual(tokens);
  }
  const session = language.session();
  await session.read('the');
  await (await session.snapshot()).save(saved());
  expect(readdirSync(here)).toEqual(['book.state']);
});

test('two processes share a folder of states while files are damaged and deleted', async () => {
  const folder = join(here, 'cache');
  const script = `
    const [path, folder, seed] = args;
    const model = await heddle.loadModel(path, { threads: 1 });
    const words = model.tokenizer.encode(${JSON.stringify(TEXT.repeat(4))});
    let state = Number(seed);
    const below = (n) => (state = (state * 48271) % 2147483647) % n;
    const expected = new Map();
    let reused = 0;
    for (let i = 0; i < 60; i++) {
      const cache = new heddle.PrefixCache(model, { bytes: 0, folder, folderBytes: 60000 });
      const ids = [...words.slice(0, 4 * (1 + below(8))), ...words.slice(0, below(3))];
      const session = model.session({ cache });
      reused += (await session.read(ids)).reusedTokens;
      const { logits } = await session.snapshot();
      const key = ids.join();
      if (!expected.has(key)) {
        const cold = model.session();
        await cold.read(ids);
        expected.set(key, (await cold.snapshot()).logits);
      }
      const error = Math.max(...logits.map((value, j) => Math.abs(value - expected.get(key)[j])));
      if (!(error < 1e-3)) throw new Error('a wrong answer: off by ' + error);
      process.stdout.write('answered\\n');
    }
    if (reused === 0) throw new Error('nothing was ever found');
    `;
  const children = [1, 2].map((seed) => inProcess(script, modelFolder, folder, String(seed)));
  const random = new Random(2);
  let open = children.length;
  for (const child of children) {
    child.stdout!.on('data', () => {
      const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.state')) : [];
      const path = join(folder, names[random.below(Math.max(names.length, 1))] ?? 'none');
      if (random.below(4) > 0 || names.length === 0) return;
      try {
        const bytes = readFileSync(path);
        bytes[random.below(bytes.length)]! ^= 1;
        if (random.below(2) === 0) rmSync(path);
        else writeFileSync(path, bytes);
      } catch {
        // One of the others was faster.
      }
    });
    child.on('exit', () => open--);
  }
  expect(await Promise.all(children.map(ended))).toEqual([0, 0]);
  expect(open).toBe(0);
  expect(readdirSync(folder).filter((name) => !name.endsWith('.state'))).toEqual([]);
});
