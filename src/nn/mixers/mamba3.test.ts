/** Mamba-3, of one input and of several: the published recurrence in float64, the law, gradients, and what is refused. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../errors.js';
import { type NdArray, total } from '../../graph/testing/arrays.js';
import { parametersOf, sigmoid, silu, softplus } from '../testing/definition.js';
import { proveMixer } from '../testing/prove.js';
import { linearOf, Memory, range, rmsNormed, tokenByToken, type Weight } from '../testing/token-loop.js';
import { type Mamba3Config, mamba3 } from './mamba3.js';

const base: Mamba3Config = {
  hiddenSize: 10,
  numHeads: 4,
  headDim: 3,
  stateSize: 8,
  numGroups: 2,
  ropeFraction: 0.5,
  outputDeviation: 0.02,
};
const cases: Record<string, Mamba3Config> = {
  'one input, half of a key turns': base,
  'one input, one group, all of a key turns': { ...base, numGroups: 1, ropeFraction: 1 },
  'two inputs, normed before the gate': { ...base, mimoRank: 2, outputNorm: true },
  'three inputs, all of a key turns': { ...base, mimoRank: 3, ropeFraction: 1 },
};

/** The step of the reference, with S itself as the state. */
function definition(config: Mamba3Config) {
  const { numHeads: H, headDim: P, stateSize: N, numGroups: G, ropeFraction, mimoRank } = config;
  const R = mimoRank ?? 1;
  const inner = H * P;
  const shared = R * G * N;
  const angles = Math.floor((N * ropeFraction) / 2);
  return (weight: Weight, u: NdArray): NdArray => {
    const [batch, sequence] = u.dims as [number, number];
    const all = linearOf(weight, 'in_proj', u);
    const widths = [inner, inner, shared, shared, H, H, H];
    const starts = range(8).map((part) => total(part, (i) => widths[i]!));
    const mimo = (name: string, h: number, r: number, p: number): number =>
      mimoRank ? weight(name).at(h, r, p) : 1;
    const mixed = tokenByToken([batch, sequence, inner], (row) => {
      const memories = range(H).map(() => Memory.zeros(N, P));
      const phases = range(H).map(() => range(angles).map(() => 0));
      let lastKeys = range(H).map(() => range(R).map(() => range(N).map(() => 0)));
      let lastValues = range(H).map(() => range(R).map(() => range(P).map(() => 0)));
      return (t) => {
        const at = (part: number, i: number): number => all.at(row, t, starts[part]! + i);
        const rotated = (part: number, name: 'B' | 'C', h: number, r: number): number[] => {
          const group = Math.floor((h * G) / H);
          const raw = range(N).map((n) => at(part, (r * G + group) * N + n));
          const x = rmsNormed(raw, 1e-5).map(
            (value, n) => value * weight(`${name}_norm.weight`).at(n) + weight(`${name}_bias`).at(h, r, n),
          );
          for (let a = 0; a < angles; a++) {
            const [i, j] = mimoRank ? [a, a + N / 2] : [2 * a, 2 * a + 1];
            const [c, s] = [Math.cos(phases[h]![a]!), Math.sin(phases[h]![a]!)];
            [x[i], x[j]] = [x[i]! * c - x[j]! * s, x[i]! * s + x[j]! * c];
          }
          return x;
        };
        const keys: number[][][] = [];
        const values: number[][][] = [];
        const y = range(H).flatMap((h) => {
          const dt = softplus(at(4, h) + weight('dt_bias').at(h));
          const x = at(5, h);
          const A = Math.min(-(x >= 0 ? 1 + x : 1 / (1 - x)), -1e-4);
          const share = sigmoid(at(6, h));
          for (let a = 0; a < angles; a++) phases[h]![a]! += Math.tanh(at(7, a)) * dt * Math.PI;
          const alpha = Math.exp(A * dt);
          keys[h] = range(R).map((r) => rotated(2, 'B', h, r));
          values[h] = range(R).map((r) => range(P).map((p) => at(1, h * P + p) * mimo('mimo_x', h, r, p)));
          const memory = memories[h]!;
          memory.decay(range(N).map(() => alpha));
          for (const r of range(R)) {
            memory.write(
              lastKeys[h]![r]!,
              lastValues[h]![r]!.map((value) => (1 - share) * dt * alpha * value),
            );
            memory.write(
              keys[h]![r]!,
              values[h]![r]!.map((value) => share * dt * value),
            );
          }
          const read = range(R).map((r) => memory.read(rotated(3, 'C', h, r)));
          const out = range(R).map((r) => {
            const all = range(P).map((p) => read[r]![p]! + weight('D').at(h) * values[h]![r]![p]!);
            if (!config.outputNorm) return all;
            return rmsNormed(all, 1e-5).map((value, p) => value * weight('norm.weight').at(h * P + p));
          });
          return range(P).map((p) =>
            total(R, (r) => {
              return out[r]![p]! * silu(at(0, h * P + p) * mimo('mimo_z', h, r, p)) * mimo('mimo_o', h, r, p);
            }),
          );
        });
        [lastKeys, lastValues] = [keys, values];
        return y;
      };
    });
    return linearOf(weight, 'out_proj', mixed);
  };
}

for (const [name, config] of Object.entries(cases)) {
  // A norm of two numbers bends too much for a difference quotient.
  const small = { ...config, hiddenSize: 5, numHeads: 2, headDim: 2, stateSize: 4, outputNorm: false };
  // dt at which the state holds for some tokens and phases turn.
  const weights = { dt_bias: [-1, 0.5, -0.5, 0] };
  proveMixer(name, {
    mixer: mamba3(config),
    hiddenSize: 10,
    weights,
    definition: definition(config),
    small: {
      mixer: mamba3(small),
      hiddenSize: 5,
      weights: { dt_bias: [-1, 0] },
    },
  });
}

describe('parameters', () => {
  const shapes = (config: Mamba3Config) =>
    Object.fromEntries([...parametersOf(mamba3(config), 10)].map(([name, { shape }]) => [name, shape]));
  const common = {
    dt_bias: [4],
    D: [4],
    'B_norm.weight': [8],
    'C_norm.weight': [8],
    'out_proj.weight': [10, 12],
  };

  test('those of state-spaces/mamba', () => {
    expect(shapes(base)).toEqual({
      ...common,
      'in_proj.weight': [2 * 12 + 2 * 16 + 3 * 4 + 2, 10],
      B_bias: [4, 1, 8],
      C_bias: [4, 1, 8],
    });
    expect(shapes({ ...base, mimoRank: 2 })).toEqual({
      ...common,
      'in_proj.weight': [2 * 12 + 2 * 32 + 3 * 4 + 2, 10],
      B_bias: [4, 2, 8],
      C_bias: [4, 2, 8],
      mimo_x: [4, 2, 3],
      mimo_z: [4, 2, 3],
      mimo_o: [4, 2, 3],
    });
  });
});

test('what cannot be is refused', () => {
  for (const [change, message] of [
    [{ numGroups: 3 }, /4 heads cannot share 3 groups/],
    [{ stateSize: 2 }, /a state size of 2 has no pairs of which 0.5 could turn: .* at least 4/],
    [{ stateSize: 7 }, /must be even/],
  ] as const) {
    expect(() => mamba3({ ...base, ...change })).toThrow(ConfigError);
    expect(() => mamba3({ ...base, ...change })).toThrow(message);
  }
});
