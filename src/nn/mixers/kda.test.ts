/** Kimi delta attention with each of its gates: its definition in float64, the law, gradients, and how it starts. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../errors.js';
import { type NdArray, total } from '../../graph/testing/arrays.js';
import { Random } from '../random.js';
import { parametersOf, sigmoid, softplus } from '../testing/definition.js';
import { proveMixer, spreadWeights } from '../testing/prove.js';
import {
  convolvedOf,
  headOf,
  linearOf,
  Memory,
  range,
  rmsNormed,
  tokenByToken,
  unit,
  type Weight,
} from '../testing/token-loop.js';
import { type KimiDeltaConfig, kimiDeltaAttention } from './kda.js';

const base: KimiDeltaConfig = {
  hiddenSize: 10,
  numHeads: 3,
  keyHeadDim: 4,
  valueHeadDim: 5,
  convKernel: 4,
  decay: { rank: 4 },
  outputGate: { per: 'channel', rank: 4 },
  negativeEigenvalues: false,
  normEpsilon: 1e-6,
  outputDeviation: 0.02,
};
const ling: KimiDeltaConfig = { ...base, decay: {}, outputGate: { per: 'channel' }, lowerBound: -5 };
const cases: Record<string, KimiDeltaConfig> = {
  'Kimi-Linear': { ...base, decayShape: [1, 1, 3, 1] },
  'fla: a bias on the gate': { ...base, outputGate: { per: 'channel', rank: 4, bias: true } },
  'Ling-3.0: safe gate, maps of full rank': ling,
  'a gate for each head': { ...ling, outputGate: { per: 'head' } },
  'negative eigenvalues, no convolution over time': { ...base, negativeEigenvalues: true, convKernel: 1 },
};

function definition(config: KimiDeltaConfig) {
  const { numHeads, keyHeadDim: dk, valueHeadDim: dv, outputGate, lowerBound } = config;
  const keys = numHeads * dk;
  return (weight: Weight, x: NdArray): NdArray => {
    const [batch, sequence] = x.dims as [number, number];
    const conv = weight('conv1d.weight');
    const q = convolvedOf(conv, linearOf(weight, 'q_proj', x));
    const k = convolvedOf(conv, linearOf(weight, 'k_proj', x), keys);
    const v = convolvedOf(conv, linearOf(weight, 'v_proj', x), 2 * keys);
    const low = (name: string, { rank, bias }: KimiDeltaConfig['decay']) =>
      rank === undefined
        ? linearOf(weight, `${name}_proj`, x, bias)
        : linearOf(weight, `${name}_b_proj`, linearOf(weight, `${name}_a_proj`, x), bias);
    const f = low('f', config.decay);
    const z = low('g', outputGate);
    const b = linearOf(weight, 'b_proj', x);
    const mixed = tokenByToken([batch, sequence, numHeads * dv], (row) => {
      const memories = range(numHeads).map(() => Memory.zeros(dk, dv));
      return (t) =>
        memories.flatMap((memory, h) => {
          const A = Math.exp(weight('A_log').data[h]!);
          const gates = headOf(f, row, t, h, dk).map((value, i) => {
            const raw = value + weight('dt_bias').at(h * dk + i);
            return lowerBound === undefined ? -A * softplus(raw) : lowerBound * sigmoid(A * raw);
          });
          const key = unit(headOf(k, row, t, h, dk));
          const beta = sigmoid(b.at(row, t, h)) * (config.negativeEigenvalues ? 2 : 1);
          memory.decay(gates.map(Math.exp));
          const found = memory.read(key);
          memory.write(
            key,
            headOf(v, row, t, h, dv).map((value, j) => beta * (value - found[j]!)),
          );
          const query = unit(headOf(q, row, t, h, dk)).map((value) => value / Math.sqrt(dk));
          return rmsNormed(memory.read(query), config.normEpsilon).map((value, j) => {
            const gate = outputGate.per === 'head' ? z.at(row, t, h) : z.at(row, t, h * dv + j);
            return value * weight('o_norm.weight').at(j) * sigmoid(gate);
          });
        });
    });
    return linearOf(weight, 'o_proj', mixed);
  };
}

// dt and A at which the state holds for some tokens.
const decays = (config: KimiDeltaConfig) => ({
  dt_bias: range(config.numHeads * config.keyHeadDim).map((i) => (i % 5) / 2 - 2),
  A_log: [-1, 0, 0.5].slice(0, config.numHeads),
});

for (const [name, config] of Object.entries(cases)) {
  const small = { ...config, hiddenSize: 6, keyHeadDim: 8, valueHeadDim: 2, normEpsilon: 0.125 };
  const mixer = kimiDeltaAttention(small);
  proveMixer(name, {
    mixer: kimiDeltaAttention(config),
    hiddenSize: config.hiddenSize,
    weights: decays(config),
    definition: definition(config),
    small: {
      mixer,
      hiddenSize: 6,
      // Normalised queries and keys bend where they are short.
      weights: { ...spreadWeights(mixer, 6, /conv1d|^[qk]_proj/), ...decays(small) },
    },
  });
}

describe('parameters', () => {
  const shapes = (config: KimiDeltaConfig) =>
    Object.fromEntries(
      [...parametersOf(kimiDeltaAttention(config), 10)].map(([name, { shape }]) => [name, shape]),
    );
  const common = {
    'q_proj.weight': [12, 10],
    'k_proj.weight': [12, 10],
    'v_proj.weight': [15, 10],
    'b_proj.weight': [3, 10],
    'conv1d.weight': [39, 1, 4],
    dt_bias: [12],
    'o_norm.weight': [5],
    'o_proj.weight': [10, 15],
  };

  test('those of Kimi-Linear, whose checkpoints store the convolution in parts', () => {
    const config = cases['Kimi-Linear']!;
    expect(shapes(config)).toEqual({
      ...common,
      A_log: [1, 1, 3, 1],
      'f_a_proj.weight': [4, 10],
      'f_b_proj.weight': [12, 4],
      'g_a_proj.weight': [4, 10],
      'g_b_proj.weight': [15, 4],
    });
    const specs = parametersOf(kimiDeltaAttention(config), 10);
    expect(specs.get('conv1d.weight')!.parts).toEqual([
      { name: 'q_conv1d.weight', shape: [12, 1, 4] },
      { name: 'k_conv1d.weight', shape: [12, 1, 4] },
      { name: 'v_conv1d.weight', shape: [15, 1, 4] },
    ]);
  });

  test('those of Ling-3.0', () => {
    expect(shapes(ling)).toEqual({
      ...common,
      A_log: [3],
      'f_proj.weight': [12, 10],
      'g_proj.weight': [15, 10],
    });
  });

  test('under the safe gate a new layer loses between 1 and 100 thousandths of a row a token', () => {
    const specs = parametersOf(kimiDeltaAttention(ling), 10);
    const bias = [...specs.get('dt_bias')!.initialize(new Random(1), [4096])];
    const rates = bias.map((value) => 5 * sigmoid(value));
    expect(Math.min(...rates)).toBeGreaterThan(0.00099);
    expect(Math.max(...rates)).toBeLessThan(0.101);
    expect(Math.exp(total(4096, (i) => Math.log(rates[i]!)) / 4096)).toBeCloseTo(0.01, 3);
  });
});

test('a lower bound that would let the state grow is refused', () => {
  for (const lowerBound of [0, 5, Number.NaN]) {
    expect(() => kimiDeltaAttention({ ...ling, lowerBound })).toThrow(ConfigError);
    expect(() => kimiDeltaAttention({ ...ling, lowerBound })).toThrow(/must be less than 0/);
  }
});
