/** Quantized models: which weights, how they are stored and read, and that a device computes with what is stored. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dequantizeBlocks, openSafetensors, writeSafetensors } from '../checkpoint/index.js';
import { float32, type HostTensor, isQuantized, openDevice, type Weight } from '../engine/index.js';
import { CheckpointError, ConfigError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { refusal } from '../testing/refusal.js';
import {
  CONFIG_FILE,
  fittingBlocks,
  hybridModel,
  locateWeights,
  modelConfig,
  openModel,
  quantizable,
  quantizeWeights,
  readModel,
  readWeights,
  WEIGHTS_FILE,
  weightBytes,
  writeModel,
  writeQuantized,
} from './index.js';
import { reader } from './testing/reader.js';
import { readReference, referenceNames } from './testing/reference.js';
import { tinyWeights } from './testing/tiny.js';

const device = await openDevice('cpu', { threads: 1 });

/** Wide enough for blocks; 48 columns are no whole number of them. */
const model = hybridModel(
  modelConfig({
    modelType: 'heddle',
    vocabSize: 300,
    hiddenSize: 64,
    pattern: 'M-*-S-E',
    numExperts: 4,
    intermediateSize: 48,
    maxPositionEmbeddings: 32,
    mambaNumHeads: 4,
    mambaHeadDim: 32,
    ssmStateSize: 8,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    headDim: 16,
    attentionWindow: 4,
    attentionSelected: 4,
  }),
);
const ids = [Array.from({ length: 20 }, (_, i) => (i * 37) % 300)];

let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'heddle-quantized-'));
  await writeModel(folder, model, tinyWeights(model));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The same weights in float32. */
function dequantized(weights: ReadonlyMap<string, Weight>): Map<string, HostTensor> {
  return new Map(
    [...weights].map(([name, weight]): [string, HostTensor] => {
      if (!isQuantized(weight)) return [name, weight as HostTensor];
      const blocks = { codes: weight.codes as Uint8Array, scales: weight.scales as Float32Array };
      return [
        name,
        float32(dequantizeBlocks(blocks, weight.dims.at(-1)!, weight.bits, weight.block), weight.dims),
      ];
    }),
  );
}

async function logitsWith(weights: ReadonlyMap<string, Weight>): Promise<Float32Array> {
  const read = await reader(device, model, weights);
  const logits = await read.inPieces(ids, [20]);
  await read.dispose();
  return logits;
}

test('matrices are quantized; norms, convolutions, scales of time and scores are not', () => {
  const names = [...quantizable(model, { bits: 4, block: 32 })].map((name) =>
    name.replace(/\d+\.mixer/, 'N'),
  );
  expect([...new Set(names)].sort()).toEqual(
    [
      'backbone.embeddings.weight',
      ...['in_proj', 'out_proj', 'input_linear', 'output_linear'].map((n) => `backbone.layers.N.${n}.weight`),
      ...['q', 'k', 'v', 'o'].map((n) => `backbone.layers.N.${n}_proj.weight`),
      ...['input', 'output'].map((n) => `backbone.layers.N.experts.${n}`),
    ].sort(),
  );
});

test('experts are; a router and what has fewer columns than a block are not', async () => {
  const { folder: jamba } = await readReference('hf', 'jamba');
  const chosen = quantizable(await readModel(jamba), { bits: 8, block: 32 });
  expect([...chosen].filter((name) => /router|dt_proj|A_log|conv/.test(name))).toEqual([]);
  const experts = 'model.layers.1.feed_forward.experts';
  expect([...chosen].filter((name) => name.startsWith(experts))).toEqual([
    `${experts}.gate_up_proj`,
    `${experts}.down_proj`,
  ]);
  expect(chosen.has('model.layers.0.mamba.in_proj.weight')).toBe(true);
});

describe.each([
  [4, 32],
  [4, 64],
  [8, 32],
] as const)('%i bits in blocks of %i', (bits, block) => {
  test('a device computes with the stored numbers', async () => {
    const weights = await quantizeWeights(folder, model, { bits, block });
    const logits = await logitsWith(weights);
    // Kernels round what they multiply with to 8 bits, and random weights amplify it from layer to layer.
    expect(relativeError(logits, await logitsWith(dequantized(weights)))).toBeLessThan(0.15);
  });

  test('written and read back, the logits are the same bits', async () => {
    const weights = await quantizeWeights(folder, model, { bits, block });
    const expected = await logitsWith(weights);
    await writeQuantized(folder, model, { bits, block }, weights);
    const read = await readModel(folder);
    expect(read.quantization).toEqual({ bits, block });
    expect(await logitsWith(await locateWeights(folder, read))).toEqual(expected);
  });
});

test.each([
  [256, 128, 128],
  [960, 128, 64],
  [96, 128, 32],
  [96, 32, 32],
  [24, 64, 64],
] as const)('a width of %i has blocks of %i as %i', (hiddenSize, asked, block) => {
  const wide = { ...model, hiddenSize };
  expect(fittingBlocks(wide, { bits: 4, block: asked })).toEqual({ bits: 4, block });
});

test('a model that is quantized while it is read has blocks that fit too', async () => {
  const opened = await openModel(folder, undefined, { bits: 4, block: 128 });
  expect(opened.model.quantization).toEqual({ bits: 4, block: 64 });
  const embedding = opened.weights.get('backbone.embeddings.weight')!;
  expect(isQuantized(embedding) && embedding.block).toBe(64);
});

test('every family quantizes, and reads the same in any pieces', async () => {
  for (const name of referenceNames('hf')) {
    const { folder: source } = await readReference('hf', name);
    const other = await readModel(source);
    const weights = await quantizeWeights(source, other, { bits: 8, block: 32 });
    const read = await reader(device, other, weights);
    const rows = [Array.from({ length: 12 }, (_, i) => 5 + i)];
    const whole = await read.inPieces(rows, [12]);
    expect(relativeError(await read.inPieces(rows, [5, 1, 6]), whole), name).toBeLessThan(0.02);
    await read.dispose();
  }
});

test('bytes are those of codes and scales', async () => {
  const weights = await quantizeWeights(folder, model, { bits: 4, block: 32 });
  const embedding = weights.get('backbone.embeddings.weight')!;
  expect(weightBytes(embedding)).toBe((300 * 64) / 2 + 300 * 2 * 4);
  expect(weightBytes(weights.get('backbone.norm_f.weight')!)).toBe(64 * 4);
});

describe('what is refused', () => {
  beforeEach(async () => {
    const weights = await quantizeWeights(folder, model, { bits: 4, block: 32 });
    await writeQuantized(folder, model, { bits: 4, block: 32 }, weights);
  });

  test('quantizing twice, and training', async () => {
    const read = await readModel(folder);
    expect(await refusal(quantizeWeights(folder, read, { bits: 4, block: 32 }))).toBeInstanceOf(
      CheckpointError,
    );
    expect((await refusal(readWeights(folder, read))).message).toMatch(/is quantized/);
  });

  test('a config that is not ours, or says something else', async () => {
    const path = join(folder, CONFIG_FILE);
    const json = JSON.parse(readFileSync(path, 'utf8'));
    const withQuantization = (change: object) =>
      writeFileSync(path, JSON.stringify({ ...json, quantization_config: change }));
    for (const other of [
      { quant_method: 'gptq', bits: 3 },
      { ...json.quantization_config, bits: 3 },
      { ...json.quantization_config, block_size: 48 },
      { ...json.quantization_config, more: 1 },
    ]) {
      withQuantization(other);
      expect(await refusal(readModel(folder))).toBeInstanceOf(ConfigError);
    }
    withQuantization({ ...json.quantization_config, block_size: 64 });
    const error = await refusal(locateWeights(folder, await readModel(folder)));
    expect(error.message).toMatch(/\.(codes|scales) is (U8|F32) \[.*makes it/);
  });

  test('codes without scales', async () => {
    const file = await openSafetensors(join(folder, WEIGHTS_FILE));
    const name = 'backbone.layers.0.mixer.in_proj.weight.scales';
    const kept = [...file.tensors.keys()].filter((key) => key !== name);
    const tensors = await Promise.all(kept.map(async (key) => ({ name: key, ...(await file.read(key)) })));
    await file.close();
    await writeSafetensors(join(folder, WEIGHTS_FILE), tensors);
    const error = await refusal(locateWeights(folder, await readModel(folder)));
    expect(error.message).toContain(`lacks the tensor ${name}`);
  });
});

test('layers of some letters have bits of their own, which the folder keeps', async () => {
  const asked = { bits: 4, block: 32, layers: { S: 8, M: 32 } } as const;
  const weights = await quantizeWeights(folder, model, asked);
  const bits = (name: string): number | undefined => {
    const weight = weights.get(`backbone.${name}.weight`)!;
    return isQuantized(weight) ? weight.bits : undefined;
  };
  expect(bits('layers.0.mixer.in_proj')).toBeUndefined();
  expect(bits('layers.2.mixer.q_proj')).toBe(4);
  expect(bits('layers.4.mixer.q_proj')).toBe(8);
  const other = mkdtempSync(join(tmpdir(), 'heddle-quantized-'));
  await writeQuantized(other, model, asked, weights);
  const read = await readModel(other);
  expect(read.quantization).toEqual(asked);
  const runs = [
    await reader(device, model, weights),
    await reader(device, read, await locateWeights(other, read)),
  ];
  const [before, after] = await Promise.all(runs.map((run) => run.inPieces(ids, [20])));
  expect(after).toEqual(before);
  for (const run of runs) await run.dispose();
  rmSync(other, { recursive: true });
  await expect(quantizeWeights(folder, model, { ...asked, layers: { X: 8 } })).rejects.toThrow(
    "no layer of this model is 'X'; it has M, -, *, S",
  );
});
