/** The whole model: what it consists of, how it starts, and that a new one knows nothing. */

import { describe, expect, test } from 'vitest';
import { int64, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { crossEntropy, input, mean, reshape, scalar } from '../graph/index.js';
import { INITIAL_DEVIATION, initialDeviation, ParameterRegistry, Random } from '../nn/index.js';
import { hybridModel } from './hybrid.js';
import { forward, logitsOf, type Model, parametersOf, stateInputs } from './model.js';
import { DESIGNS, preset } from './presets.js';
import { tinyConfig } from './testing/tiny.js';

function newWeights(model: Model = hybridModel(tinyConfig()), seed = 1): Map<string, Float32Array> {
  const random = new Random(seed);
  return new Map(parametersOf(model).map(({ name, shape, initialize }) => [name, initialize(random, shape)]));
}

function deviation(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
}

describe('what it consists of', () => {
  test('names are those of the checkpoint, in the order of the layers', () => {
    const names = parametersOf(hybridModel(tinyConfig({ pattern: 'M*-S' }))).map(({ name }) => name);
    const layer = (i: number, ...rest: string[]): string[] => [
      `backbone.layers.${i}.norm.weight`,
      ...rest.map((name) => `backbone.layers.${i}.mixer.${name}`),
    ];
    const heads = ['q_proj.weight', 'k_proj.weight', 'v_proj.weight'];
    expect(names).toEqual([
      'backbone.embeddings.weight',
      ...layer(0, 'in_proj.weight', 'conv1d.weight', 'conv1d.bias', 'dt_bias', 'A_log', 'D'),
      'backbone.layers.0.mixer.norm.weight',
      'backbone.layers.0.mixer.out_proj.weight',
      ...layer(1, ...heads, 'o_proj.weight'),
      ...layer(2, 'input_linear.weight', 'output_linear.weight'),
      ...layer(3, ...heads, 'score.weight', 'score.bias', 'o_proj.weight'),
      'backbone.norm_f.weight',
    ]);
  });

  test('latent attention has the names of DeepSeek, and the sizes of its keys', () => {
    const sizes = { kvLoraRank: 6, qkNopeHeadDim: 4, qkRopeHeadDim: 2, vHeadDim: 3 };
    const shapes = (change: object) =>
      parametersOf(hybridModel(tinyConfig({ pattern: 'A', ...sizes, ...change }))).map(
        ({ name, shape }) => `${name.replace('backbone.layers.0.mixer.', '')} ${shape}`,
      );
    const latent = [
      'kv_a_proj_with_mqa.weight 8,16',
      'kv_a_layernorm.weight 6',
      'kv_b_proj.weight 28,6',
      'o_proj.weight 16,12',
    ];
    expect(shapes({}).slice(2, -1)).toEqual(['q_proj.weight 24,16', ...latent]);
    const queries = ['q_a_proj.weight 5,16', 'q_a_layernorm.weight 5', 'q_b_proj.weight 24,5'];
    expect(shapes({ qLoraRank: 5 }).slice(2, -1)).toEqual([...queries, ...latent]);
  });

  test('an untied model has a head of its own', () => {
    const specs = parametersOf(hybridModel(tinyConfig({ tieWordEmbeddings: false })));
    expect(specs.at(-1)).toMatchObject({ name: 'lm_head.weight', shape: [300, 16] });
  });

  test('states are named by their layers; a pattern letter without a state has none', () => {
    const { state } = hybridModel(tinyConfig({ pattern: '-M*' }));
    expect(state.map(({ name }) => name)).toEqual([
      'layers.1.mixer.conv',
      'layers.1.mixer.ssm',
      'layers.2.mixer.key',
      'layers.2.mixer.value',
    ]);
  });

  test('a forward pass over a state gives every state its successor', () => {
    const model = hybridModel(tinyConfig());
    const ids = input('ids', 'int64', ['batch', 'sequence']);
    const position = input('position', 'int64', []);
    const state = stateInputs(model);
    const result = forward(model, new ParameterRegistry(), ids, position, { state });
    expect(Object.keys(result.state).sort()).toEqual(model.state.map(({ name }) => name).sort());
    expect(forward(model, new ParameterRegistry(), ids, scalar(0, 'int64')).state).toEqual({});
  });

  test('weight decay leaves norms, biases and time scales alone', () => {
    for (const { name, decay } of parametersOf(hybridModel(tinyConfig()))) {
      const exempt = /norm(_f)?\.weight$|bias$|A_log$|\.D$/.test(name);
      expect(decay, name).toBe(!exempt);
    }
  });
});

describe('how it starts', () => {
  test('A lies in [1, 16] and dt in [0.001, 0.1], and both make use of that', () => {
    const weights = newWeights(hybridModel(preset('ssm', 'small', 300)));
    const values = (name: string, of: (value: number) => number): number[] =>
      [...weights].flatMap(([key, data]) => (key.endsWith(name) ? Array.from(data, of) : []));
    const A = values('A_log', Math.exp);
    const dt = values('dt_bias', (bias) => Math.log1p(Math.exp(bias)));
    expect(A.length).toBe(80);
    expect(Math.min(...A)).toBeGreaterThanOrEqual(1);
    expect(Math.max(...A)).toBeLessThanOrEqual(16 * (1 + 1e-6));
    expect(Math.max(...A) - Math.min(...A)).toBeGreaterThan(10);
    expect(Math.min(...dt)).toBeGreaterThanOrEqual(1e-3 * (1 - 1e-5));
    expect(Math.max(...dt)).toBeLessThanOrEqual(1e-1 * (1 + 1e-5));
    // Log-uniform: as many below 0.01 as above.
    const below = dt.filter((step) => step < 0.01).length;
    expect(below).toBeGreaterThan(25);
    expect(below).toBeLessThan(55);
  });

  test('what adds to the residual stream is scaled down by the square root of the number of blocks', () => {
    for (const pattern of ['M-*-', '(M-S-W-*-)x2']) {
      const model = hybridModel(tinyConfig({ pattern, hiddenSize: 64, intermediateSize: 64 }));
      const expected = initialDeviation(64) / Math.sqrt(model.layers.length);
      let outputs = 0;
      for (const [name, data] of newWeights(model)) {
        if (/(out_proj|o_proj|output_linear)\.weight$/.test(name)) {
          outputs++;
          expect(Math.abs(deviation(data) / expected - 1), name).toBeLessThan(0.15);
        } else if (/(in_proj|q_proj|input_linear)\.weight$/.test(name)) {
          expect(Math.abs(deviation(data) / initialDeviation(64) - 1), name).toBeLessThan(0.15);
        } else if (name.endsWith('embeddings.weight')) {
          expect(Math.abs(deviation(data) / INITIAL_DEVIATION - 1), name).toBeLessThan(0.15);
        }
      }
      expect(outputs).toBe(model.layers.length);
    }
  });

  test('norms and D are 1, the score bias is 0', () => {
    for (const [name, data] of newWeights()) {
      const value = /norm(_f)?\.weight$|\.D$/.test(name) ? 1 : name.endsWith('score.bias') ? 0 : undefined;
      if (value !== undefined) expect(new Set(data), name).toEqual(new Set([value]));
    }
  });

  test('the seed decides', () => {
    const model = hybridModel(tinyConfig());
    expect(newWeights(model, 7)).toEqual(newWeights(model, 7));
    expect(newWeights(model, 7)).not.toEqual(newWeights(model, 8));
  });

  for (const design of DESIGNS) {
    test(`a new ${design} model finds every token about as likely`, async () => {
      const vocabSize = 512;
      const model = hybridModel(preset(design, 'nano', vocabSize));
      const registry = new ParameterRegistry();
      const [batch, sequence] = [2, 48];
      const ids = input('ids', 'int64', [batch, sequence]);
      const labels = input('labels', 'int64', [batch, sequence]);
      const { hidden } = forward(model, registry, ids, scalar(0, 'int64'));
      const logits = reshape(logitsOf(model, registry, hidden), [-1, vocabSize]);
      const loss = mean(crossEntropy(logits, reshape(labels, [-1])));
      const weights = new Map(
        [...newWeights(model)].map(([name, data]) => {
          const dims = registry.specs.get(name)!.shape;
          return [name, { dtype: 'float32' as const, dims, data }];
        }),
      );
      const device = await openDevice('cpu', { threads: 1 });
      const executable = await device.compile(withInputs({ outputs: { loss }, weights }));
      const random = new Random(3);
      const tokens = () =>
        int64(
          Array.from({ length: batch * sequence }, () => random.below(vocabSize)),
          [batch, sequence],
        );
      const results = await executable.run({ ids: tokens(), labels: tokens() });
      expect(Math.abs((results.loss!.data[0] as number) - Math.log(vocabSize))).toBeLessThan(0.1);
    });
  }
});
