/** Our models as a known family's: the weights keep their bits, the logits stay, and what does not fit is refused. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openWeights } from '../checkpoint/index.js';
import { openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { asKnownFamily } from './export-hf.js';
import {
  type ExportOptions,
  hybridModel,
  locateWeights,
  type Model,
  type ModelConfigInput,
  modelFromConfig,
  planExport,
  preset,
  readModel,
  writeModel,
} from './index.js';
import { reader } from './testing/reader.js';
import { readReference, referenceNames } from './testing/reference.js';
import { tinyConfig, tinyWeights } from './testing/tiny.js';

const device = await openDevice('cpu', { threads: 1 });

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-export-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

function folder(name: string): string {
  const path = join(here, name);
  mkdirSync(path, { recursive: true });
  return path;
}

/** Exports a folder into a new one, and returns that. */
async function exported(from: string, name: string, options: ExportOptions = {}): Promise<string> {
  const to = folder(name);
  await (await planExport(from, options)).write(to);
  return to;
}

/** A model of ours in a folder. */
async function ours(change: Partial<ModelConfigInput>): Promise<{ from: string; model: Model }> {
  // An inner width of twice the hidden size, and heads that make up the hidden size.
  const model = hybridModel(tinyConfig({ nGroups: 1, ...change }));
  const from = folder('ours');
  await writeModel(from, model, tinyWeights(model));
  return { from, model };
}

async function logitsOfFolder(path: string): Promise<Float32Array> {
  const model = await readModel(path);
  const read = await reader(device, model, await locateWeights(path, model));
  const rows = [0, 1].map((row) => Array.from({ length: 23 }, (_, i) => (7 + 31 * row + 13 * i * i) % 300));
  const logits = await read.step(rows, 0, read.newStates(2));
  await read.dispose();
  return logits;
}

/** Every tensor of a folder as bits. */
async function bitsOf(path: string): Promise<Map<string, { shape: readonly number[]; bits: Uint32Array }>> {
  const files = await openWeights(path);
  const tensors = new Map<string, { shape: readonly number[]; bits: Uint32Array }>();
  for (const [name, { shape }] of files.tensors) {
    tensors.set(name, { shape, bits: new Uint32Array((await files.readFloat32(name)).buffer) });
  }
  await files.close();
  return tensors;
}

function filesIn(path: string): Map<string, string> {
  return new Map(readdirSync(path).map((name) => [name, readFileSync(join(path, name), 'latin1')]));
}

describe.each([
  ['granitemoehybrid', 'M-*-M-', { tieWordEmbeddings: false }],
  ['granitemoehybrid', 'M-*-M-', { ropeTheta: 5000, normEpsilon: 1e-6 }],
  ['granitemoehybrid', '(*-)x2', {}],
  ['granitemoehybrid', '(M-)x2', { timeStepLimit: [0.25, 1], useConvBias: false }],
  ['granitemoehybrid', '(M-)x2', { mambaNumHeads: 6, timeStepLimit: [1, null] }],
  ['mamba2', 'MMM', { tieWordEmbeddings: false, nGroups: 2 }],
  ['llama', '(*-)x2', { ropeTheta: 10_000, tieWordEmbeddings: false }],
  ['llama', '(*-)x2', { ropeTheta: 500, headDim: 6 }],
] as const)('as %s: %s with %j', (family, pattern, change) => {
  test('keeps every bit and the logits; exported again it is the same bytes', async () => {
    const { from, model } = await ours({ pattern, ...change } as Partial<ModelConfigInput>);
    const plan = await planExport(from, { to: 'hf' });
    expect(plan.json.model_type).toBe(family);
    const there = await exported(from, 'there', { to: 'hf' });
    const other = await readModel(there);
    expect(other.modelType).toBe(family);
    expect(other.maxPositionEmbeddings).toBe(model.maxPositionEmbeddings);
    expect(other.eosTokenIds).toEqual([0]);
    const json = JSON.parse(readFileSync(join(there, 'config.json'), 'utf8'));
    expect(json).toMatchObject({
      dtype: 'float32',
      torch_dtype: 'float32',
      pad_token_id: 0,
      bos_token_id: null,
    });

    const { rename } = asKnownFamily(
      tinyConfig({ nGroups: 1, pattern, ...change } as Partial<ModelConfigInput>),
    );
    const [before, after] = [await bitsOf(from), await bitsOf(there)];
    for (const [name, { shape, bits }] of before) {
      const parts = rename(name).map((target) => after.get(target)!);
      expect(parts.flatMap((part) => [...part.bits])).toEqual([...bits]);
      expect(parts.reduce((rows, part) => rows + part.shape[0]!, 0)).toBe(shape[0]);
      for (const target of rename(name)) after.delete(target);
    }
    expect([...after.keys()]).toEqual([]);

    const [own, others] = [await logitsOfFolder(from), await logitsOfFolder(there)];
    // The product that llama's MLP has in two is the only thing computed otherwise.
    if (family === 'llama') expect(relativeError(others, own)).toBeLessThan(1e-6);
    else expect(others).toEqual(own);

    expect(filesIn(await exported(there, 'again', {}))).toEqual(filesIn(there));
    expect(filesIn(await exported(there, 'asked', { to: 'hf' }))).toEqual(filesIn(there));
  });
});

test('rounded before or after, a split tensor is the same; the config says how it is stored', async () => {
  const { from } = await ours({ pattern: '(*-)x2', ropeTheta: 10_000 });
  const rounded = await exported(from, 'rounded', { dtype: 'BF16' });
  const before = await exported(rounded, 'before', { to: 'hf' });
  expect(filesIn(before)).toEqual(filesIn(await exported(from, 'after', { to: 'hf', dtype: 'BF16' })));
  const config = JSON.parse(readFileSync(join(before, 'config.json'), 'utf8'));
  expect(config).toMatchObject({ dtype: 'bfloat16', torch_dtype: 'bfloat16' });
});

test('the siblings that can be are families of others; their sizes fit', () => {
  for (const size of ['nano', 'small', 'base'] as const) {
    for (const [design, family] of [
      ['transformer', 'llama'],
      ['ssm', 'granitemoehybrid'],
    ] as const) {
      const { json, notes } = asKnownFamily(preset(design, size, 4096));
      expect(json.model_type).toBe(family);
      expect(notes.length).toBe(design === 'ssm' ? 1 : 0);
      expect(modelFromConfig(json, 'config.json').hiddenSize).toBe(preset(design, size, 4096).hiddenSize);
    }
  }
});

test('a config is what transformers writes for such a model, key by key', async () => {
  const { from } = await ours({ pattern: 'M-*-', ropeTheta: 5000, timeStepLimit: [1, null], bosTokenId: 3 });
  const text = readFileSync(join(await exported(from, 'there', { to: 'hf' }), 'config.json'), 'utf8');
  // Its config takes a list of floats only.
  expect(text).toMatch(/"time_step_limit": \[\s*1\.0,\s*\{\s*"__float__": "Infinity"\s*\}\s*\]/);
  expect(JSON.parse(text)).toEqual({
    architectures: ['GraniteMoeHybridForCausalLM'],
    model_type: 'granitemoehybrid',
    vocab_size: 300,
    hidden_size: 16,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    max_position_embeddings: 32,
    bos_token_id: 3,
    eos_token_id: 0,
    pad_token_id: 0,
    num_hidden_layers: 2,
    layer_types: ['mamba', 'attention'],
    num_attention_heads: 4,
    num_key_value_heads: 2,
    attention_bias: false,
    rope_parameters: { rope_type: 'default', rope_theta: 5000 },
    rope_theta: 5000,
    position_embedding_type: 'rope',
    attention_multiplier: 0.5,
    embedding_multiplier: 1,
    residual_multiplier: 1,
    logits_scaling: 1,
    num_local_experts: 0,
    num_experts_per_tok: 0,
    shared_intermediate_size: 24,
    intermediate_size: 24,
    mamba_n_heads: 4,
    mamba_d_head: 8,
    mamba_d_state: 4,
    mamba_n_groups: 1,
    mamba_d_conv: 4,
    mamba_expand: 2,
    mamba_conv_bias: true,
    mamba_proj_bias: false,
    mamba_chunk_size: 256,
    time_step_limit: [1, { __float__: 'Infinity' }],
    rms_norm_eps: 1e-5,
    dtype: 'float32',
    torch_dtype: 'float32',
  });
});

describe('refuses, and says what would fit:', () => {
  const message = (change: Partial<ModelConfigInput>): string => {
    try {
      asKnownFamily(tinyConfig({ nGroups: 1, ...change }));
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      return (error as Error).message;
    }
    throw new Error('nothing was refused');
  };
  const what = /What others read: M- and \*- in any order, or M alone\. ONNX takes every pattern\.$/;

  test.each([
    ['(M-S-)x2', /the pattern \(M-S-\)x2 has selective attention \(S\), which neither llama/],
    ['K-*-', /the pattern K-\*- has Kimi delta attention \(K\), which neither llama/],
    ['M-W-', /has sliding-window attention \(W\)/],
    ['M-M*-', /block 4 is \* where an MLP \(-\) must be/],
    ['M*', /block 2 is \* where an MLP/],
    ['M-*', /block 4 is missing where an MLP/],
    ['-M', /block 1 is - where a mixer \(M or \*\) must be/],
    ['M--', /block 3 is - where a mixer/],
  ])('the pattern %s', (pattern, expected) => {
    expect(message({ pattern })).toMatch(expected);
    expect(message({ pattern })).toMatch(what);
  });

  test('sizes that the family has no keys for', () => {
    expect(message({ pattern: 'MM', mambaNumHeads: 5 })).toBe(
      'mamba_num_heads (5) times mamba_head_dim (8) is 40; mamba2 takes multiples of hidden_size (16) only, such as 32 or 48',
    );
    expect(message({ pattern: 'M-', mambaNumHeads: 1 })).toMatch(
      /is 8; granitemoehybrid takes multiples of hidden_size \(16\) only, such as 16$/,
    );
    expect(message({ pattern: 'M-*-', headDim: 8 })).toMatch(
      /num_attention_heads \(4\) times head_dim \(8\) is 32; granitemoehybrid takes hidden_size \(16\) alone/,
    );
    const heads = { numAttentionHeads: 3, numKeyValueHeads: 1 };
    expect(message({ pattern: '*-', ropeTheta: 10_000, ...heads })).toMatch(
      /hidden_size \(16\) is no multiple of num_attention_heads \(3\)/,
    );
  });

  test('a form of ours for what is of another family, and the folder is named', async () => {
    const { folder: granite } = await readReference('hf', 'granitemoehybrid');
    await expect(planExport(granite, { to: 'heddle' })).rejects.toThrow(
      /hf.granitemoehybrid is a granitemoehybrid model, which Heddle reads as it is.*Write it as hf or onnx/,
    );
    const { from } = await ours({ pattern: 'M-S-' });
    await expect(planExport(from, { to: 'hf' })).rejects.toThrow(
      `${from} cannot be written as hf: the pattern`,
    );
  });
});

test('says where a program that reads the export would compute something else', () => {
  const notes = (change: Partial<ModelConfigInput>): string =>
    asKnownFamily(tinyConfig({ nGroups: 1, vocabSize: 304, ...change })).notes.join('; ');
  expect(notes({ pattern: 'M-*-' })).toBe('');
  expect(notes({ pattern: 'MM' })).toBe('');
  expect(notes({ pattern: 'M-*-', ropeTheta: 10_000 })).toMatch(/^llama\.cpp computes .* without rotary/);
  expect(notes({ pattern: '*-' })).toMatch(/^llama\.cpp computes .* with rotary/);
  expect(notes({ pattern: 'M-' })).toMatch(/^without attention transformers keeps no cache/);
  const both = { pattern: 'M-*-' };
  expect(notes({ ...both, vocabSize: 300 })).toMatch(/^llama\.cpp .* multiple of 8 only, not 300$/);
  expect(notes({ ...both, nGroups: 2 })).toMatch(/^vLLM and llama\.cpp norm each of the 2 groups/);
  expect(notes({ ...both, timeStepLimit: [0, 1] })).toMatch(/^vLLM and llama\.cpp do not know time_step/);
  expect(notes({ pattern: 'MM', mambaNumHeads: 6 })).toMatch(/^llama\.cpp reads mamba2 .* not 3$/);
});

describe('a model of another family', () => {
  test.each(referenceNames('hf'))('%s keeps its config and every bit', async (name) => {
    const { folder: from } = await readReference('hf', name);
    const there = await exported(from, 'there');
    expect(readFileSync(join(there, 'config.json'), 'utf8')).toBe(
      readFileSync(join(from, 'config.json'), 'utf8'),
    );
    expect(await bitsOf(there)).toEqual(await bitsOf(from));
    expect(filesIn(await exported(there, 'again'))).toEqual(filesIn(there));
  });

  test('in another dtype its config says so, and what is rounded once stays', async () => {
    const { folder: from } = await readReference('hf', 'qwen3_5');
    const half = await exported(from, 'half', { dtype: 'BF16' });
    const files = await openWeights(half);
    expect([...files.tensors.values()].every(({ dtype }) => dtype === 'BF16')).toBe(true);
    await files.close();
    const text = readFileSync(join(half, 'config.json'), 'utf8');
    expect(text).toContain('"dtype": "bfloat16"');
    expect(text).not.toContain('"dtype": "float32"');
    const wide = await exported(half, 'wide', { dtype: 'F32' });
    expect(await bitsOf(wide)).toEqual(await bitsOf(half));
    expect(filesIn(await exported(wide, 'again', { dtype: 'BF16' }))).toEqual(filesIn(half));
  });
});
