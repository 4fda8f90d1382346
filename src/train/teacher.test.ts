/** A transformer becomes a hybrid: what fits is copied, and what was lost is learned again from the transformer. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type HostTensor, openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import {
  convert,
  hybridModel,
  type Model,
  modelFromConfig,
  readModel,
  readWeights,
  writeModel,
} from '../models/index.js';
import { reader } from '../models/testing/reader.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { evaluateModel } from './evaluate.js';
import { digests, interruptedAfter, type RunOptions, tinyInput, validationTokens } from './testing/runs.js';
import { train } from './trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'heddle-teacher-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const cpu = await openDevice('cpu', { threads: 1 });

const transformer = hybridModel(
  tinyConfig({
    pattern: '*-*-',
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    headDim: 8,
    ropeTheta: 100,
    attentionWindow: 40,
  }),
);
const ids = Array.from({ length: 20 }, (_, i) => (i * 37 + 5) % 300);

async function said(model: Model, weights: ReadonlyMap<string, HostTensor>, tokens = ids) {
  const run = await reader(cpu, model, weights);
  const output = await run.inPieces([tokens], [tokens.length]);
  await run.dispose();
  return output;
}

const llama = modelFromConfig(
  {
    model_type: 'llama',
    vocab_size: 300,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    rope_theta: 100,
    max_position_embeddings: 64,
  },
  'a config',
);

describe('a transformer whose attention stays', () => {
  test.each([
    ['of our own', transformer, '*-*-'],
    ['of our own, in a window that sees everything', transformer, 'W-*-'],
    ['of the family llama', llama, '*-*-'],
  ])('%s: says what it said', async (_, source, pattern) => {
    const weights = tinyWeights(source);
    const made = convert(source, weights, pattern, { keys: { attentionWindow: 40 } });
    expect(made.fresh).toEqual([]);
    expect(relativeError(await said(made.model, made.weights), await said(source, weights))).toBeLessThan(
      1e-5,
    );
  });
});

test('what does not fit is told', () => {
  const weights = tinyWeights(transformer);
  expect(() => convert(transformer, weights, 'G-')).toThrow(
    /does not fit a transformer with the layers \*-\*-/,
  );
  expect(() => convert(transformer, weights, 'G-[M*]-')).toThrow(ConfigError);
  const hybrid = hybridModel(tinyConfig({ pattern: 'M-' }));
  expect(() => convert(hybrid, tinyWeights(hybrid), 'G-')).toThrow(/plain transformer/);
  const extra = new Map([...weights, ['backbone.layers.0.mixer.q_norm.weight', [...weights.values()][0]!]]);
  expect(() => convert(transformer, extra, 'G-*-')).toThrow(/no place for: backbone.layers.0.mixer.q_norm/);
});

describe('a hybrid that was converted', () => {
  const settings = { steps: 40, batch: 4, evaluateEvery: 0, saveEvery: 0 };
  let teacherLoss: number;
  const lossOf = async (path: string): Promise<number> => {
    const model = await readModel(path);
    return (await evaluateModel(model, await readWeights(path, model), validationTokens, 12, cpu)).loss;
  };
  beforeAll(async () => {
    await train(tinyInput(at('teacher'), { model: transformer, settings: { ...settings, steps: 160 } }));
    teacherLoss = await lossOf(join(at('teacher'), 'checkpoint'));
  });

  test('is nearer to its teacher than one that learned from the text alone', async () => {
    const source = join(at('teacher'), 'checkpoint');
    const weights = await readWeights(source, transformer);
    const { model, weights: converted } = convert(transformer, weights, 'K-*-');
    mkdirSync(at('pupil'));
    await writeModel(at('pupil'), model, converted);
    const text = [...validationTokens.subarray(0, 12)];
    const wanted = await said(transformer, weights, text);
    const distances: number[] = [];
    for (const teacher of [undefined, { folder: source, weight: 5, match: 5 }]) {
      const run = at(`pupil-${teacher ? 'taught' : 'alone'}`);
      await train(
        tinyInput(run, {
          model,
          from: at('pupil'),
          settings: { ...settings, steps: 100 },
          ...(teacher && { teacher }),
        }),
      );
      const now = await said(model, await readWeights(join(run, 'checkpoint'), model), text);
      distances.push(relativeError(now, wanted));
    }
    expect(distances[1]! / distances[0]!).toBeLessThan(0.95);
  });

  test.each(['G-*-', 'M-*-', 'L-*-'])('%s regains from its teacher what it lost', async (pattern) => {
    const source = join(at('teacher'), 'checkpoint');
    const { model, weights } = convert(transformer, await readWeights(source, transformer), pattern);
    mkdirSync(at(pattern));
    await writeModel(at(pattern), model, weights);
    const lost = await lossOf(at(pattern));
    const teacher = { folder: source, weight: 1, match: 1 };
    const options: RunOptions = { model, from: at(pattern), teacher, settings };
    await train(tinyInput(at(`${pattern}-run`), options));
    const regained = await lossOf(join(at(`${pattern}-run`), 'checkpoint'));
    expect(lost).toBeGreaterThan(teacherLoss + 0.3);
    expect((lost - regained) / (lost - teacherLoss)).toBeGreaterThan(0.8);
    if (pattern !== 'L-*-') return;
    await interruptedAfter(8, at('resumed'), options);
    await train(tinyInput(at('resumed'), { ...options, resume: true }));
    expect(digests(at('resumed'))).toEqual(digests(at(`${pattern}-run`)));
  });
});
