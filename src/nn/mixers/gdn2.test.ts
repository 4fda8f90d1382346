/** GDN-2: its definition in float64, the law, and gradients. */
import type { NdArray } from '../../graph/testing/arrays.js';
import { sigmoid, softplus } from '../testing/definition.js';
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
import { type GatedDeltaNet2Config, gatedDeltaNet2 } from './gdn2.js';

const base: GatedDeltaNet2Config = {
  hiddenSize: 10,
  numHeads: 3,
  keyHeadDim: 4,
  valueHeadDim: 5,
  convKernel: 4,
  decay: { rank: 4 },
  outputGate: { per: 'channel', rank: 4, bias: true },
  negativeEigenvalues: false,
  normEpsilon: 1e-6,
  outputDeviation: 0.02,
};
const cases: Record<string, GatedDeltaNet2Config> = {
  'as in fla': base,
  'safe gate, negative eigenvalues': { ...base, lowerBound: -5, negativeEigenvalues: true },
};

function definition(config: GatedDeltaNet2Config) {
  const { numHeads, keyHeadDim: dk, valueHeadDim: dv, lowerBound } = config;
  return (weight: Weight, x: NdArray): NdArray => {
    const [batch, sequence] = x.dims as [number, number];
    const conv = weight('conv1d.weight');
    const q = convolvedOf(conv, linearOf(weight, 'q_proj', x));
    const k = convolvedOf(conv, linearOf(weight, 'k_proj', x), numHeads * dk);
    const v = convolvedOf(conv, linearOf(weight, 'v_proj', x), 2 * numHeads * dk);
    const f = linearOf(weight, 'f_b_proj', linearOf(weight, 'f_a_proj', x));
    const z = linearOf(weight, 'g_b_proj', linearOf(weight, 'g_a_proj', x), true);
    const [b, w] = [linearOf(weight, 'b_proj', x), linearOf(weight, 'w_proj', x)];
    const mixed = tokenByToken([batch, sequence, numHeads * dv], (row) => {
      const memories = range(numHeads).map(() => Memory.zeros(dk, dv));
      return (t) =>
        memories.flatMap((memory, h) => {
          const A = Math.exp(weight('A_log').at(h));
          const gates = headOf(f, row, t, h, dk).map((value, i) => {
            const raw = value + weight('dt_bias').at(h * dk + i);
            return lowerBound === undefined ? -A * softplus(raw) : lowerBound * sigmoid(A * raw);
          });
          const key = unit(headOf(k, row, t, h, dk));
          memory.decay(gates.map(Math.exp));
          const found = memory.read(
            headOf(b, row, t, h, dk).map(
              (value, i) => sigmoid(value) * (config.negativeEigenvalues ? 2 : 1) * key[i]!,
            ),
          );
          const written = headOf(w, row, t, h, dv).map(
            (value, j) => sigmoid(value) * v.at(row, t, h * dv + j),
          );
          memory.write(
            key,
            written.map((value, j) => value - found[j]!),
          );
          const query = unit(headOf(q, row, t, h, dk)).map((value) => value / Math.sqrt(dk));
          return rmsNormed(memory.read(query), config.normEpsilon).map(
            (value, j) => value * weight('o_norm.weight').at(j) * sigmoid(z.at(row, t, h * dv + j)),
          );
        });
    });
    return linearOf(weight, 'o_proj', mixed);
  };
}

const decays = (config: GatedDeltaNet2Config) => ({
  dt_bias: range(config.numHeads * config.keyHeadDim).map((i) => (i % 5) / 2 - 2),
  A_log: [-1, 0, 0.5],
});

for (const [name, config] of Object.entries(cases)) {
  const small = { ...config, hiddenSize: 5, keyHeadDim: 6, valueHeadDim: 2, normEpsilon: 0.125 };
  const mixer = gatedDeltaNet2(small);
  proveMixer(name, {
    mixer: gatedDeltaNet2(config),
    hiddenSize: 10,
    weights: decays(config),
    definition: definition(config),
    small: {
      mixer,
      hiddenSize: 5,
      // Normalised queries and keys bend where they are short.
      weights: { ...spreadWeights(mixer, 5, /conv1d|^[qk]_proj/), ...decays(small) },
    },
  });
}
