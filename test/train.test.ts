/** `heddle train` as a whole: its output when it works, is interrupted, or fails. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { build, heddle, type Outcome } from './testing/heddle.js';

const TEXT =
  'The heddle lifts the chosen threads, and the weft goes under them. ' +
  'What the shuttle carries it carries through, row by row, until the cloth is done. ';

const config = {
  model_type: 'heddle',
  vocab_size: 300,
  hidden_size: 16,
  pattern: 'M-S-',
  intermediate_size: 24,
  max_position_embeddings: 16,
  mamba_num_heads: 4,
  mamba_head_dim: 8,
  ssm_state_size: 4,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  head_dim: 8,
  attention_window: 4,
  attention_selected: 4,
};

beforeAll(build);

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-train-command-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

/** Writes a file here and returns its path. */
function file(name: string, content: string): string {
  const path = join(here, name);
  writeFileSync(path, content);
  return path;
}

const corpus = (): string => file('corpus.txt', TEXT.repeat(40));
const tiny = (change: object = {}): string => file('config.json', JSON.stringify({ ...config, ...change }));
const out = (): string => join(here, 'run');
const small = ['--vocab', '300', '--batch', '2', '--threads', '1'];

function train(...args: string[]): Promise<Outcome> {
  return heddle(['train', ...args, '--out', out(), ...small]);
}

/** Exit code 1 and one line that says what is wrong, without a stack trace; nothing was written. */
function expectRefusal({ code, stdout, stderr }: Outcome, message: RegExp): void {
  expect(stderr).toMatch(message);
  expect(stderr.trimEnd().split('\n').length, stderr).toBe(1);
  expect(stderr).toMatch(/^heddle: /);
  expect(stderr).not.toMatch(/\n\s+at |Error:|node:internal/);
  expect(stdout).toBe('');
  expect(code).toBe(1);
  expect(existsSync(out())).toBe(false);
}

test("trains, and prints the model's quality and its folder", async () => {
  const { code, stderr } = await train(corpus(), '--config', tiny(), '--steps', '16');
  expect(stderr).toMatch(/corpus +corpus\.txt: .*tokens to learn from, .* held out/);
  expect(stderr).toMatch(/model +M-S-, .* parameters, vocabulary 300/);
  expect(stderr).toMatch(/step 16\/16 +loss \d/);
  expect(stderr).toMatch(/done: validation perplexity \d+\.\d+, model in /);
  expect(code).toBe(0);
  const log = readFileSync(join(out(), 'metrics.jsonl'), 'utf8').trim().split('\n');
  const samples = log.map((line) => JSON.parse(line)).filter(({ event }) => event === 'sample');
  expect(samples.map(({ step }) => step)).toEqual([0, 16]);
  for (const { prompt, text } of samples) {
    expect(TEXT).toContain(prompt.trim());
    expect(text.length).toBeGreaterThan(0);
  }
  for (const name of ['config.json', 'model.safetensors', 'tokenizer.json', 'optimizer.safetensors']) {
    expect(existsSync(join(out(), 'checkpoint', name)), name).toBe(true);
  }
});

test('learns from token ids, resumes, and generates ids', async () => {
  const lines = Array.from({ length: 60 }, (_, i) =>
    Array.from({ length: 17 }, (_, k) => (i + k) % 12).join(' '),
  );
  const ids = file('moves.txt', lines.join('\n'));
  const args = [
    '--ids',
    'text',
    '--config',
    tiny({ vocab_size: undefined }),
    '--threads',
    '1',
    '--batch',
    '4',
  ];
  const run = await heddle([
    'train',
    ids,
    ...args,
    '--steps',
    '30',
    '--learning-rate',
    '2e-2',
    '--warmup',
    '5',
    '--out',
    out(),
  ]);
  expect(run.stderr).toMatch(/corpus +moves\.txt: 969 token ids in 57 documents to learn from, 51 held out/);
  expect(run.stderr).toMatch(/model .* vocabulary 12/);
  expect(run.code).toBe(0);
  expect(existsSync(join(out(), 'checkpoint', 'tokenizer.json'))).toBe(false);
  const longer = await heddle([
    'train',
    ids,
    ...args,
    '--steps',
    '32',
    '--learning-rate',
    '2e-2',
    '--warmup',
    '5',
    '--out',
    out(),
    '--resume',
  ]);
  expect(longer.stderr).toMatch(/step 32\/32/);
  const written = await heddle([
    'generate',
    out(),
    '--prompt',
    '4 5 6',
    '--temperature',
    '0',
    '--max-tokens',
    '3',
  ]);
  expect(written.stdout).toBe('4 5 6 7 8 9\n');
  const measured = await heddle(['evaluate', out(), ids, '--ids', 'text', '--sequence', '16']);
  expect(measured.stdout).toMatch(/^perplexity 1\.\d+ .* over \d+ held-out tokens/);
});

describe('refuses', () => {
  test('a corpus file that is empty', async () => {
    expectRefusal(await train(file('empty.txt', '')), /empty\.txt has no text in it/);
  });

  test('a corpus file that is missing', async () => {
    expectRefusal(await train(join(here, 'none.txt')), /none\.txt cannot be read/);
  });

  test('a corpus shorter than a sequence', async () => {
    const outcome = await train(file('short.txt', TEXT.slice(0, 60)), '--config', tiny());
    // What the run would be is told first.
    const last = { ...outcome, stderr: outcome.stderr.replace(/^(corpus|model|run) .*\n/gm, '') };
    expectRefusal(last, /tokens, fewer than one sequence of 16/);
  });

  test('an unknown letter in the pattern of a config', async () => {
    expectRefusal(await train(corpus(), '--config', tiny({ pattern: 'M-Z-' })), /'M-Z-' has the letter 'Z'/);
  });

  test('an unknown key in a config', async () => {
    expectRefusal(
      await train(corpus(), '--config', tiny({ hiden_size: 8 })),
      /config\.json .*unknown keys: hiden_size/,
    );
  });

  test('a config that is not JSON, or is missing', async () => {
    expectRefusal(
      await train(corpus(), '--config', file('bad.json', '{"model_type"')),
      /bad\.json is not JSON/,
    );
    expectRefusal(await train(corpus(), '--config', join(here, 'none.json')), /none\.json cannot be read/);
  });

  test('an invalid option, before anything is read', async () => {
    const whole = 'expected a whole number, 1 or more';
    const wrong: [string[], string][] = [
      [['--batch', '0'], whole],
      [['--sequence', '0'], whole],
      [['--accumulate', '0'], whole],
      [['--vocab', '0'], whole],
      [['--learning-rate', '0'], 'expected a number above 0'],
      [['--learning-rate', '-1'], 'expected a number above 0'],
      [['--validation', '1'], 'expected a share between 0 and 1'],
      [['--rate', 'layer:S=-1'], 'expected a number, 0 or more'],
      [['--distill', '-1'], 'expected a number, 0 or more'],
      [['--lora', '2'], '--lora trains adapters beside the weights of a model'],
      [['--batch', '3', '--devices', '2', '--device', 'cuda'], '--batch 3 cannot be shared by 2 GPUs'],
      [['--devices', '2'], '--devices and --shard share the work among GPUs on --device cuda'],
      [['--processes', '2'], 'need all three of --processes, --process and --coordinator'],
      [['--teacher', join(here, 'nobody')], 'nobody is not a model'],
    ];
    const nothing = join(here, 'no-corpus.txt');
    for (const [args, message] of wrong) {
      const { code, stdout, stderr } = await heddle(['train', nothing, '--out', out(), ...args]);
      expect([args, code, stdout]).toEqual([args, 1, '']);
      expect(stderr).toContain(message);
      expect(stderr).not.toContain('no-corpus');
    }
    expect(existsSync(out())).toBe(false);
  });

  test('options that do not fit the model, before a device is opened', async () => {
    for (const [args, message] of [
      [['--rate', 'layer:Q=0.1'], /no parameter that is trained belongs to layer:Q/],
      [['--precision', 'bfloat16,Q=float32'], /no layer of this model is 'Q'/],
    ] as const) {
      // There is no such device here.
      const outcome = await train(corpus(), '--config', tiny(), '--device', 'cuda', ...args);
      const last = { ...outcome, stderr: outcome.stderr.replace(/^(corpus|model|run) .*\n/gm, '') };
      expectRefusal(last, message);
    }
  });

  test('to resume a run that does not exist', async () => {
    expectRefusal(await train(corpus(), '--config', tiny(), '--resume'), /run\/checkpoint/);
  });
});

test('with 0 steps the initial model is written, and a note says so', async () => {
  const { code, stderr } = await train(corpus(), '--config', tiny(), '--steps', '0');
  expect(stderr).toMatch(/note +0 steps: nothing is trained, and the model is written as it begins/);
  expect(existsSync(join(out(), 'checkpoint', 'model.safetensors'))).toBe(true);
  expect(code).toBe(0);
});

test('Ctrl-C saves and exits with 130; --resume completes', async () => {
  // Long enough not to be over before the signal comes, which is sent as soon as the run has begun.
  const args = [
    corpus(),
    '--config',
    tiny(),
    '--steps',
    '3000',
    '--save-every',
    '0',
    '--evaluate-every',
    '0',
  ];
  let sent = false;
  const interrupted = await heddle(['train', ...args, '--out', out(), ...small], (stderr, child) => {
    if (sent || !/step 0: validation loss/.test(stderr)) return;
    sent = true;
    child.kill('SIGINT');
  });
  expect(interrupted.stderr).toMatch(/interrupted: saving/);
  expect(interrupted.stderr).toMatch(/stopped after step \d+\. Go on with the same command and --resume\./);
  expect(interrupted.code).toBe(130);
  const progress = (): { step: number } =>
    JSON.parse(readFileSync(join(out(), 'checkpoint', 'training.json'), 'utf8')) as { step: number };
  const { step } = progress();
  expect(step).toBeLessThan(3000);

  const resumed = await train(...args, '--resume');
  expect(resumed.stderr).toMatch(/done: validation perplexity/);
  expect(resumed.code).toBe(0);
  expect(progress().step).toBe(3000);
  const lines = readFileSync(join(out(), 'metrics.jsonl'), 'utf8').trim().split('\n');
  const steps = lines.map((line) => JSON.parse(line) as { event: string; step: number });
  expect(steps.filter(({ event }) => event === 'step').map((event) => event.step)).toEqual(
    Array.from({ length: 3000 }, (_, i) => i + 1),
  );
});
