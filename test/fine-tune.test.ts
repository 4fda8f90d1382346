/** `heddle train --from` as a whole: full fine-tuning, adapters, and all commands that take an adapter. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { build, HEDDLE, heddle, type Outcome } from './testing/heddle.js';

const OLD = 'The heddle lifts the chosen threads, and the weft goes under them. ';
const NEW = 'Zebras juggle quartz, and nobody asks why they do; every vexed wizard jumps. ';

const config = {
  model_type: 'heddle',
  vocab_size: 300,
  hidden_size: 16,
  pattern: 'M-*-',
  intermediate_size: 24,
  max_position_embeddings: 16,
  mamba_num_heads: 4,
  mamba_head_dim: 8,
  ssm_state_size: 4,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  head_dim: 8,
};

let here: string;
let base: string;
let corpus: string;
const at = (name: string): string => join(here, name);
const small = ['--batch', '4', '--threads', '1'];

beforeAll(async () => {
  build();
  here = mkdtempSync(join(tmpdir(), 'heddle-fine-tune-'));
  writeFileSync(at('config.json'), JSON.stringify(config));
  writeFileSync(at('old.txt'), (OLD + NEW).repeat(40));
  writeFileSync(at('new.txt'), NEW.repeat(60));
  corpus = at('new.txt');
  base = join(at('old'), 'checkpoint');
  const made = ['train', at('old.txt'), '--out', at('old'), '--config', at('config.json'), '--vocab', '300'];
  const { code, stderr } = await heddle([...made, ...small, '--steps', '24']);
  expect(code, stderr).toBe(0);
});
afterAll(() => rmSync(here, { recursive: true, force: true }));

function train(out: string, ...args: string[]): Promise<Outcome> {
  return heddle(['train', corpus, '--out', at(out), ...small, '--steps', '40', ...args]);
}

async function perplexity(...args: string[]): Promise<number> {
  const { code, stdout, stderr } = await heddle(['evaluate', ...args]);
  expect(code, stderr).toBe(0);
  return Number(/perplexity ([\d.]+)/.exec(stdout)![1]);
}

function generate(...args: string[]): Promise<Outcome> {
  const how = ['--prompt', 'Zebras', '--max-tokens', '12', '--temperature', '0', '--threads', '1'];
  return heddle(['generate', ...args, ...how]);
}

test('adapters are trained, evaluated, used, resumed and merged', async () => {
  const how = ['--from', base, '--lora', '8', '--learning-rate', '0.02'];
  const before = readFileSync(join(base, 'model.safetensors'));
  const { code, stderr } = await train('lora', ...how);
  expect(code, stderr).toBe(0);
  expect(stderr).toMatch(/model +M-\*-, .* parameters, vocabulary \d+/);
  expect(stderr).toMatch(/adapters +[\d.]+k? parameters of rank 8, which alone are trained/);
  const adapter = join(at('lora'), 'checkpoint');
  expect(stderr).toContain(`adapter in ${adapter}`);
  expect(stderr).toContain(`next:  ${HEDDLE} generate ${base} --adapter ${at('lora')} --prompt`);
  expect(readFileSync(join(base, 'model.safetensors')).equals(before)).toBe(true);
  expect(JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8'))).toMatchObject({
    peft_type: 'LORA',
    base_model_name_or_path: base,
    r: 8,
    lora_alpha: 16,
    target_modules: ['in_proj', 'input_linear', 'k_proj', 'o_proj', 'output_linear', 'q_proj', 'v_proj'],
  });

  expect(readFileSync(join(at('lora'), 'metrics.jsonl'), 'utf8')).toMatch(
    /"event":"sample","step":0,"prompt":"./,
  );

  const plain = await perplexity(base, corpus);
  const adapted = await perplexity(base, corpus, '--adapter', adapter);
  expect(adapted).toBeLessThan(0.9 * plain);
  expect(
    Number(/validation perplexity ([\d.]+)/.exec(stderr.slice(stderr.indexOf('done:')))![1]),
  ).toBeCloseTo(adapted, 1);

  const written = await generate(base, '--adapter', adapter);
  expect(written.code, written.stderr).toBe(0);
  expect(written.stdout).not.toBe((await generate(base)).stdout);

  const resumed = await train('lora', ...how, '--resume');
  expect(resumed.stderr).toMatch(/done: validation perplexity/);
  const otherwise = await train('lora', '--from', base, '--lora', '4', '--resume');
  expect(otherwise.code).toBe(1);
  expect(otherwise.stderr).toMatch(/is of a run that differs in .*rank \(then 8, now 4\)/);

  const merged = await heddle(['merge', base, adapter, at('merged')]);
  expect(merged.code, merged.stderr).toBe(0);
  expect((await generate(at('merged'))).stdout).toBe(written.stdout);
  expect(await perplexity(at('merged'), corpus)).toBeCloseTo(adapted, 1);
  const again = await heddle(['merge', base, adapter, at('merged')]);
  expect(again).toMatchObject({ code: 1, stdout: '' });
  expect(again.stderr).toMatch(/^heddle: .*merged is there already/);
});

test("full fine-tuning keeps the model's form and learns the new text", async () => {
  const { code, stderr } = await train('whole', '--from', base, '--learning-rate', '0.005');
  expect(code, stderr).toBe(0);
  const checkpoint = join(at('whole'), 'checkpoint');
  expect(stderr).toContain(`model in ${checkpoint}`);
  expect(readFileSync(join(checkpoint, 'tokenizer.json'))).toEqual(
    readFileSync(join(base, 'tokenizer.json')),
  );
  expect(await perplexity(checkpoint, corpus)).toBeLessThan(0.9 * (await perplexity(base, corpus)));
  expect((await generate(at('whole'))).code).toBe(0);
});

describe('refuses, and writes nothing:', () => {
  async function refused(message: RegExp, ...args: string[]): Promise<void> {
    const { code, stdout, stderr } = await train('none', ...args);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at |node:internal/);
    expect(stdout).toBe('');
    expect(code).toBe(1);
    expect(existsSync(at('none'))).toBe(false);
  }

  test.each([
    ['--design', 'ssm'],
    ['--size', 'nano'],
    ['--config', 'config.json'],
    ['--vocab', '300'],
    ['--tokenizer', 'somewhere'],
  ])('--from with %s', async (option, value) => {
    await refused(
      new RegExp(`'--from <folder>' cannot be used with option '${option} <`),
      '--from',
      base,
      option,
      value,
    );
  });

  test('--lora without --from, --lora-alpha without --lora, a rank of 0', async () => {
    await refused(/^heddle: --lora trains adapters beside the weights of a model.*--from/, '--lora', '4');
    await refused(/^heddle: --lora-alpha .*--lora/, '--from', base, '--lora-alpha', '4');
    await refused(
      /^heddle: option '--lora <rank>' argument '0' is invalid\. expected a whole number, 1 or more/,
      '--from',
      base,
      '--lora',
      '0',
    );
  });

  test('no model', async () => {
    await refused(/is not a model/, '--from', at('nowhere'));
  });
});

test('an adapter alone is no model', async () => {
  await train('alone', '--from', base, '--lora', '2', '--steps', '0');
  const outcome = await generate(at('alone'));
  expect(outcome.code).toBe(1);
  expect(outcome.stderr).toMatch(
    /^heddle: .*checkpoint is an adapter, not a model: name the model .*--adapter/,
  );
});
