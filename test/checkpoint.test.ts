/** Checkpoints of other programs on the command line: the output of `heddle info`, and the errors of every command for damaged files. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { TINY_TEXT, tinyTokenizer } from '../src/text/testing/tiny.js';
import { makeBase } from '../src/train/testing/base.js';
import { build, heddle } from './testing/heddle.js';

const FIXTURES = fileURLToPath(new URL('./fixtures/hf/', import.meta.url));
const SHARDED = `${FIXTURES}granitemoehybrid-moe-bf16`;

beforeAll(build);

let here: string;
const at = (name: string): string => join(here, name);
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-checkpoint-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

test('info: layers as a strip, sizes as they are stored, and the state of a sequence', async () => {
  const { code, stdout, stderr } = await heddle(['info', SHARDED]);
  expect(code, stderr).toBe(0);
  expect(stdout.split('\n').slice(0, 14)).toEqual([
    `${SHARDED}: granitemoehybrid, 64.6k parameters, vocabulary 128, made for texts of up to 2,048 tokens`,
    '',
    'layers   ME*EME',
    '         ME *E ME',
    '         M  2 x Mamba-2',
    '         E  3 x mixture of experts',
    '         *  1 x attention',
    '',
    'weights  129 kB of BF16 in 4 files; 259 kB loaded as float32',
    '',
    'state of one sequence',
    '  after                                    1,000 tokens  32,000 tokens  128,000 tokens  1,000,000 tokens',
    '  fixed (recurrent, convolution, windows)       10.5 kB        10.5 kB         10.5 kB           10.5 kB',
    '  growing (keys and values)                      128 kB        4.10 MB         16.4 MB            128 MB',
  ]);
});

describe('an error of one line:', () => {
  async function expectRefusal(args: readonly string[], message: RegExp): Promise<void> {
    const { code, stdout, stderr } = await heddle(args);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^heddle: \P{Cc}*\n$/u);
    expect(stdout).toBe('');
    expect(code).toBe(1);
  }

  test('a missing folder, a file, no tokenizer', async () => {
    writeFileSync(at('file'), '');
    symlinkSync('loop.gguf', at('loop.gguf'));
    await expectRefusal(['info', at('loop.gguf')], /loop\.gguf is not a model/);
    await expectRefusal(
      ['info', at('x'.repeat(300))],
      /x cannot be used: its name is longer than the file system allows/,
    );
    for (const command of ['info', 'chat', 'generate']) {
      await expectRefusal(
        [command, at('nowhere')],
        /nowhere is not a model: there is no such folder.*main\.js pull/,
      );
      await expectRefusal([command, at('file')], /file is a file, not a model: name the folder/);
    }
    await expectRefusal(
      ['generate', SHARDED, '--prompt', 'hello'],
      /"hello" cannot be read: .*has no tokenizer\.json, so its texts are token ids from 0 to 127/,
    );
  });

  test('a truncated or missing shard', async () => {
    cpSync(SHARDED, at('model'), { recursive: true });
    const shard = at('model/model-00002-of-00004.safetensors');
    truncateSync(shard, 5000);
    await expectRefusal(['info', at('model')], /model-00002-of-00004\.safetensors is truncated/);
    rmSync(shard);
    await expectRefusal(['info', at('model')], /model-00002-of-00004\.safetensors is missing/);
  });

  test('the tokenizer of another model', async () => {
    await makeBase(at('model'), 'llama');
    await tinyTokenizer.save(at('model'));
    writeFileSync(at('corpus.txt'), TINY_TEXT.repeat(40));
    const how = ['--sequence', '16', '--validation', '0.5'];
    await expectRefusal(
      ['evaluate', at('model'), at('corpus.txt'), ...how],
      /the tokenizer gives the id \d+, but the model has 128 tokens/,
    );
    await expectRefusal(['generate', at('model'), '-p', 'x'], /has 300 tokens, but its model has 128/);
  });

  test('a broken tokenizer, by its own path, before anything is exported', async () => {
    await makeBase(at('model'), 'llama');
    writeFileSync(at('model/tokenizer.json'), '{"added');
    await expectRefusal(['export', at('model'), at('out')], /: \S*\/model\/tokenizer\.json is not JSON/);
    writeFileSync(
      at('model/tokenizer.json'),
      'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
    );
    await expectRefusal(
      ['export', at('model'), at('out')],
      /: \S*\/model\/tokenizer\.json is a Git LFS pointer.*git lfs pull/,
    );
    expect(readdirSync(here)).toEqual(['model']);
  });

  test('control characters of a file are escaped', async () => {
    cpSync(SHARDED, at('model'), { recursive: true });
    writeFileSync(at('model/config.json'), '{"model_type": "\\u001b[2J\\ngpt2"}');
    await expectRefusal(['info', at('model')], /model_type "\\u001b\[2J\\ngpt2"/);
    writeFileSync(at('model/config.json'), '\u001b[2J\n');
    await expectRefusal(['info', at('model')], /config\.json is not JSON \(.*\): copy or download it again/);
  });
});

test('work continues when its messages are not read', async () => {
  const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
  const child = spawn(process.execPath, [main, 'export', SHARDED, at('out')], { stdio: 'pipe' });
  child.stderr.destroy();
  const [code] = (await once(child, 'exit')) as [number];
  expect(code).toBe(0);
  expect(readdirSync(at('out'))).toContain('model.safetensors');
});

test('work that Ctrl-C interrupts leaves no partial output', async () => {
  const module = (path: string): string => JSON.stringify(new URL(`../dist/${path}`, import.meta.url).href);
  const script = `
    import { writeFileSync } from 'node:fs';
    import { writeFolderAtomic } from ${module('checkpoint/index.js')};
    import { leavingNothing } from ${module('cli/interrupt.js')};
    await leavingNothing(() => writeFolderAtomic('out', async (temporary) => {
      writeFileSync(temporary + '/model.safetensors', 'half of it');
      process.stdout.write('writing');
      await new Promise((resolve) => setTimeout(resolve, 1e9));
    }));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: here });
  await once(child.stdout, 'data');
  expect(readdirSync(here)).toEqual([expect.stringMatching(/^\.out\..*\.heddle-tmp$/)]);
  child.kill('SIGINT');
  const [code] = (await once(child, 'exit')) as [number];
  expect(code).toBe(130);
  expect(readdirSync(here)).toEqual([]);
});
