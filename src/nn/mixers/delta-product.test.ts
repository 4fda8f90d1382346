/** DeltaProduct: its definition in float64, the law, and gradients. */
import { expect, test } from 'vitest';
import { ConfigError } from '../../errors.js';
import type { NdArray } from '../../graph/testing/arrays.js';
import { sigmoid, silu, softplus } from '../testing/definition.js';
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
import { type DeltaProductConfig, deltaProduct } from './delta-product.js';

const base: DeltaProductConfig = {
  hiddenSize: 10,
  numHeads: 2,
  keyHeadDim: 4,
  valueHeadDim: 3,
  steps: 2,
  convKernel: 4,
  negativeEigenvalues: true,
  normEpsilon: 1e-6,
  outputDeviation: 0.02,
};
const cases: Record<string, DeltaProductConfig> = {
  'two steps, beta up to 2': base,
  'three steps, beta up to 1': { ...base, steps: 3, negativeEigenvalues: false },
  'one step, no convolution over time': { ...base, steps: 1, convKernel: 1 },
};

function definition(config: DeltaProductConfig) {
  const { numHeads: H, keyHeadDim: dk, valueHeadDim: dv, steps, negativeEigenvalues } = config;
  return (weight: Weight, x: NdArray): NdArray => {
    const [batch, sequence] = x.dims as [number, number];
    const conv = weight('conv1d.weight');
    const q = convolvedOf(conv, linearOf(weight, 'q_proj', x));
    const k = convolvedOf(conv, linearOf(weight, 'k_proj', x), H * dk);
    const v = convolvedOf(conv, linearOf(weight, 'v_proj', x), (1 + steps) * H * dk);
    const [a, b, g] = ['a', 'b', 'g'].map((name) => linearOf(weight, `${name}_proj`, x)) as [
      NdArray,
      NdArray,
      NdArray,
    ];
    const mixed = tokenByToken([batch, sequence, H * dv], (row) => {
      const memories = range(H).map(() => Memory.zeros(dk, dv));
      return (t) =>
        memories.flatMap((memory, h) => {
          const rate = Math.exp(weight('A_log').at(h)) * softplus(a.at(row, t, h) + weight('dt_bias').at(h));
          memory.decay(range(dk).map(() => Math.exp(-rate)));
          for (let n = 0; n < steps; n++) {
            const key = unit(headOf(k, row, t, n * H + h, dk));
            const beta = sigmoid(b.at(row, t, n * H + h)) * (negativeEigenvalues ? 2 : 1);
            const found = memory.read(key);
            memory.write(
              key,
              headOf(v, row, t, n * H + h, dv).map((value, j) => beta * (value - found[j]!)),
            );
          }
          const query = unit(headOf(q, row, t, h, dk)).map((value) => value / Math.sqrt(dk));
          return rmsNormed(memory.read(query), config.normEpsilon).map(
            (value, j) => value * weight('o_norm.weight').at(j) * silu(g.at(row, t, h * dv + j)),
          );
        });
    });
    return linearOf(weight, 'o_proj', mixed);
  };
}

const decays = { dt_bias: [-1, 0], A_log: [-1, 0.25] };

for (const [name, config] of Object.entries(cases)) {
  const small = { ...config, hiddenSize: 5, keyHeadDim: 6, valueHeadDim: 2, normEpsilon: 0.125 };
  const mixer = deltaProduct(small);
  proveMixer(name, {
    mixer: deltaProduct(config),
    hiddenSize: 10,
    weights: decays,
    definition: definition(config),
    small: {
      mixer,
      hiddenSize: 5,
      // Normalised queries and keys bend where they are short.
      weights: { ...spreadWeights(mixer, 5, /conv1d|^[qk]_proj/), ...decays },
    },
  });
}

test('without a step nothing is written, which is refused', () => {
  expect(() => deltaProduct({ ...base, steps: 0 })).toThrow(ConfigError);
  expect(() => deltaProduct({ ...base, steps: 0 })).toThrow(/0 steps a token writes nothing/);
});
