/** Mamba in the forms of Mamba, Falcon-Mamba and Jamba: its definition in float64, the law, gradients, beginnings. */
import { describe, expect, test } from 'vitest';
import { type NdArray, tabulate, total } from '../../graph/testing/arrays.js';
import { Random } from '../random.js';
import { parametersOf, silu, softplus } from '../testing/definition.js';
import { proveMixer } from '../testing/prove.js';
import { type Mamba1Config, mamba1 } from './mamba1.js';

const hiddenSize = 4;
const base: Mamba1Config = {
  hiddenSize,
  innerSize: 6,
  stateSize: 3,
  timeStepRank: 2,
  convKernel: 4,
  convBias: true,
  projectionBias: false,
  outputDeviation: 0.02,
};
const cases: [string, Mamba1Config][] = [
  ['mamba', base],
  ['falcon_mamba', { ...base, norm: { epsilon: 0.125, weights: false } }],
  ['jamba', { ...base, norm: { epsilon: 0.125, weights: true } }],
  ['bias on the projections, none on the convolution', { ...base, projectionBias: true, convBias: false }],
  ['a convolution over one token', { ...base, convKernel: 1 }],
];
// Where new models start, dt is so small that the state hardly matters.
const weights = { 'dt_proj.bias': [-1, 0.5, -2, 0, -0.5, 1] };

function definition(config: Mamba1Config) {
  const { innerSize, stateSize, timeStepRank, convKernel, norm } = config;
  return (weight: (name: string) => NdArray, u: NdArray): NdArray => {
    const [batch, sequence] = u.dims as [number, number];
    /** weight . row + bias, where `row` gives the inputs. */
    const linear = (name: string, bias: boolean, i: number, inputs: number, row: (j: number) => number) =>
      (bias ? weight(`${name}.bias`).at(i) : 0) +
      total(inputs, (j) => weight(`${name}.weight`).at(i, j) * row(j));
    const projected = tabulate([batch, sequence, 2 * innerSize], (b, t, i) =>
      linear('in_proj', config.projectionBias, i!, hiddenSize, (j) => u.at(b!, t!, j)),
    );
    const x = tabulate([batch, sequence, innerSize], (b, t, d) =>
      silu(
        (config.convBias ? weight('conv1d.bias').at(d!) : 0) +
          total(convKernel, (k) => {
            const from = t! - convKernel + 1 + k;
            return from < 0 ? 0 : weight('conv1d.weight').at(d!, 0, k) * projected.at(b!, from, d!);
          }),
      ),
    );
    const parts = { dt: [0, timeStepRank], b: [timeStepRank, stateSize] } as const;
    const selected = (name: 'dt' | 'b' | 'c', b: number, t: number): number[] => {
      const [start, size] = name === 'c' ? [timeStepRank + stateSize, stateSize] : parts[name];
      const raw = Array.from({ length: size }, (_, i) =>
        linear('x_proj', false, start + i, innerSize, (j) => x.at(b, t, j)),
      );
      if (!norm) return raw;
      const rms = Math.sqrt(total(size, (i) => raw[i]! ** 2) / size + norm.epsilon);
      return raw.map((v, i) => (v / rms) * (norm.weights ? weight(`${name}_layernorm.weight`).at(i) : 1));
    };

    const mixed = tabulate([batch, sequence, innerSize], () => 0);
    for (let b = 0; b < batch; b++) {
      const states = Array.from({ length: innerSize }, () => Array<number>(stateSize).fill(0));
      for (let t = 0; t < sequence; t++) {
        const [dtRaw, B, C] = [selected('dt', b, t), selected('b', b, t), selected('c', b, t)];
        for (let d = 0; d < innerSize; d++) {
          const dt = softplus(linear('dt_proj', true, d, timeStepRank, (j) => dtRaw[j]!));
          const h = states[d]!;
          for (let n = 0; n < stateSize; n++) {
            const decay = Math.exp(-dt * Math.exp(weight('A_log').at(d, n)));
            h[n] = decay * h[n]! + dt * B[n]! * x.at(b, t, d);
          }
          const y = total(stateSize, (n) => C[n]! * h[n]!) + weight('D').at(d) * x.at(b, t, d);
          mixed.data[(b * sequence + t) * innerSize + d] = y * silu(projected.at(b, t, innerSize + d));
        }
      }
    }
    return tabulate([batch, sequence, hiddenSize], (b, t, i) =>
      linear('out_proj', config.projectionBias, i!, innerSize, (d) => mixed.at(b!, t!, d)),
    );
  };
}

for (const [name, config] of cases) {
  proveMixer(name, {
    mixer: mamba1(config),
    hiddenSize,
    weights,
    definition: definition(config),
  });
}

describe('parameters and state', () => {
  const mamba = {
    'in_proj.weight': [12, 4],
    'conv1d.weight': [6, 1, 4],
    'conv1d.bias': [6],
    'x_proj.weight': [8, 6],
    'dt_proj.weight': [6, 2],
    'dt_proj.bias': [6],
    A_log: [6, 3],
    D: [6],
    'out_proj.weight': [4, 6],
  };
  const shapes = (config: Mamba1Config) =>
    Object.fromEntries(
      [...parametersOf(mamba1(config), hiddenSize)].map(([name, { shape }]) => [name, shape]),
    );

  test('are those of the checkpoints', () => {
    expect(shapes(base)).toEqual(mamba);
    expect(shapes({ ...base, norm: { epsilon: 1e-6, weights: false } })).toEqual(mamba);
    expect(shapes({ ...base, norm: { epsilon: 1e-6, weights: true } })).toEqual({
      ...mamba,
      'dt_layernorm.weight': [2],
      'b_layernorm.weight': [3],
      'c_layernorm.weight': [3],
    });
    expect(mamba1(base).state.map(({ name, shape }) => [name, shape])).toEqual([
      ['conv', ['batch', 3, 6]],
      ['ssm', ['batch', 3, 6]],
    ]);
  });

  test('start with A = 1 to stateSize, dt in [0.001, 0.1] and a small dt_proj', () => {
    const specs = parametersOf(mamba1(base), hiddenSize);
    const initial = (name: string) => {
      const { initialize, shape } = specs.get(name)!;
      return Array.from(initialize(new Random(1), shape));
    };
    const A = initial('A_log').map(Math.exp);
    A.forEach((value, i) => {
      expect(value).toBeCloseTo(1 + (i % 3), 5);
    });
    for (const bias of initial('dt_proj.bias')) {
      expect(softplus(bias)).toBeGreaterThan(0.00099);
      expect(softplus(bias)).toBeLessThan(0.101);
    }
    expect(Math.max(...initial('dt_proj.weight').map(Math.abs))).toBeLessThanOrEqual(Math.SQRT1_2);
    expect(initial('D')).toEqual(Array(6).fill(1));
  });

  test('weight decay spares what sets the time scales', () => {
    const decaying = [...parametersOf(mamba1({ ...base, projectionBias: true }), hiddenSize).values()]
      .filter(({ decay }) => decay)
      .map(({ name }) => name);
    expect(decaying).toEqual([
      'in_proj.weight',
      'conv1d.weight',
      'x_proj.weight',
      'dt_proj.weight',
      'out_proj.weight',
    ]);
  });
});
