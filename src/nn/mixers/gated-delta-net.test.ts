/**
 * The gated delta net in each of its layouts: against its definition in float64, one number at a time, and the law and
 * the gradients of all mixers.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { type Device, type HostTensor, openDevice } from '../../engine/index.js';
import { ConfigError } from '../../errors.js';
import { input, scalar } from '../../graph/index.js';
import { type NdArray, relativeError, tabulate, toArray, total } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry, type ParameterSpec } from '../parameters.js';
import { Random } from '../random.js';
import { checkGradients } from '../testing/gradients.js';
import { checkLaw } from '../testing/law.js';
import { compileMixer } from '../testing/runs.js';
import { randomWeights } from '../testing/weights.js';
import { type GatedDeltaNetConfig, type GatedDeltaNetLayout, gatedDeltaNet } from './gated-delta-net.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice('cpu', { threads: 1 });
});

const base: GatedDeltaNetConfig = {
  hiddenSize: 10,
  numKeyHeads: 2,
  numValueHeads: 6,
  keyHeadDim: 4,
  valueHeadDim: 5,
  convKernel: 4,
  layout: 'joined',
  negativeEigenvalues: false,
  normEpsilon: 1e-6,
  outputDeviation: 0.02,
};
const cases: [string, GatedDeltaNetConfig][] = [
  ['interleaved', { ...base, layout: 'interleaved' }],
  ['joined', base],
  ['separate', { ...base, layout: 'separate', negativeEigenvalues: true }],
  ['a key head for each value head', { ...base, layout: 'interleaved', numValueHeads: 2 }],
  ['without a convolution over time', { ...base, convKernel: 1 }],
];

/** Where each layout keeps a row: of head `head` (of the keys for q and k, else of the values), element `i`. */
type Rows = Record<'q' | 'k' | 'v' | 'z' | 'b' | 'a', (head: number, i: number) => [string, number]>;

function rowsOf(config: GatedDeltaNetConfig): Record<GatedDeltaNetLayout, Rows> {
  const { numKeyHeads, numValueHeads, keyHeadDim: dk, valueHeadDim: dv } = config;
  const each = numValueHeads / numKeyHeads;
  const keys = numKeyHeads * dk;
  const group = (head: number) => Math.floor(head / each);
  const qkvz = (key: number, offset: number): [string, number] => [
    'in_proj_qkvz.weight',
    key * (2 * dk + 2 * each * dv) + offset,
  ];
  const ba = (key: number, offset: number): [string, number] => [
    'in_proj_ba.weight',
    key * 2 * each + offset,
  ];
  return {
    interleaved: {
      q: (head, i) => qkvz(head, i),
      k: (head, i) => qkvz(head, dk + i),
      v: (head, i) => qkvz(group(head), 2 * dk + (head % each) * dv + i),
      z: (head, i) => qkvz(group(head), 2 * dk + (each + (head % each)) * dv + i),
      b: (head) => ba(group(head), head % each),
      a: (head) => ba(group(head), each + (head % each)),
    },
    joined: {
      q: (head, i) => ['in_proj_qkv.weight', head * dk + i],
      k: (head, i) => ['in_proj_qkv.weight', keys + head * dk + i],
      v: (head, i) => ['in_proj_qkv.weight', 2 * keys + head * dv + i],
      z: (head, i) => ['in_proj_z.weight', head * dv + i],
      b: (head) => ['in_proj_b.weight', head],
      a: (head) => ['in_proj_a.weight', head],
    },
    separate: {
      q: (head, i) => ['q_proj.weight', head * dk + i],
      k: (head, i) => ['k_proj.weight', head * dk + i],
      v: (head, i) => ['v_proj.weight', head * dv + i],
      z: (head, i) => ['g_proj.weight', head * dv + i],
      b: (head) => ['b_proj.weight', head],
      a: (head) => ['a_proj.weight', head],
    },
  };
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const silu = (x: number) => x * sigmoid(x);
const range = (size: number) => Array.from({ length: size }, (_, i) => i);
const dot = (a: readonly number[], b: readonly number[]) => total(a.length, (i) => a[i]! * b[i]!);

function definition(
  config: GatedDeltaNetConfig,
  weights: ReadonlyMap<string, HostTensor>,
  x: NdArray,
): NdArray {
  const { hiddenSize, numKeyHeads, numValueHeads, keyHeadDim: dk, valueHeadDim: dv, convKernel } = config;
  const [batch, sequence] = x.dims as [number, number];
  const arrays = new Map([...weights].map(([name, value]) => [name, toArray(value)]));
  const weight = (name: string) => arrays.get(name)!;
  const rows = rowsOf(config)[config.layout];
  const [norm, out] = config.layout === 'separate' ? ['o_norm', 'o_proj'] : ['norm', 'out_proj'];

  const projected = (b: number, t: number, [name, row]: [string, number]) =>
    total(hiddenSize, (j) => weight(name).at(row, j) * x.at(b, t, j));
  const convolved = (b: number, t: number, row: [string, number], channel: number) =>
    silu(
      total(convKernel, (j) => {
        const from = t - convKernel + 1 + j;
        return from < 0 ? 0 : weight('conv1d.weight').at(channel, 0, j) * projected(b, from, row);
      }),
    );
  const unit = (values: number[]) => {
    const length = Math.sqrt(dot(values, values) + 1e-6);
    return values.map((value) => value / length);
  };

  const mixed = range(batch).map(() => range(sequence).map(() => Array<number>(numValueHeads * dv).fill(0)));
  for (const b of range(batch)) {
    for (const head of range(numValueHeads)) {
      const keyHead = Math.floor((head * numKeyHeads) / numValueHeads);
      let S = range(dk).map(() => Array<number>(dv).fill(0));
      for (const t of range(sequence)) {
        const q = unit(range(dk).map((i) => convolved(b, t, rows.q(keyHead, i), keyHead * dk + i)));
        const k = unit(
          range(dk).map((i) => convolved(b, t, rows.k(keyHead, i), (numKeyHeads + keyHead) * dk + i)),
        );
        const v = range(dv).map((i) =>
          convolved(b, t, rows.v(head, i), 2 * numKeyHeads * dk + head * dv + i),
        );
        const a = projected(b, t, rows.a(head, 0)) + weight('dt_bias').at(head);
        const decay = Math.exp(-Math.exp(weight('A_log').at(head)) * Math.log1p(Math.exp(a)));
        const beta = sigmoid(projected(b, t, rows.b(head, 0))) * (config.negativeEigenvalues ? 2 : 1);
        S = S.map((row) => row.map((value) => value * decay));
        const found = range(dv).map((i) => total(dk, (j) => S[j]![i]! * k[j]!));
        S = S.map((row, j) => row.map((value, i) => value + k[j]! * beta * (v[i]! - found[i]!)));
        const o = range(dv).map((i) => total(dk, (j) => (S[j]![i]! * q[j]!) / Math.sqrt(dk)));
        const rms = Math.sqrt(dot(o, o) / dv + config.normEpsilon);
        for (const i of range(dv)) {
          const gate = silu(projected(b, t, rows.z(head, i)));
          mixed[b]![t]![head * dv + i] = (weight(`${norm}.weight`).at(i) * o[i]! * gate) / rms;
        }
      }
    }
  }
  return tabulate([batch, sequence, hiddenSize], (b, t, i) =>
    total(numValueHeads * dv, (j) => weight(`${out}.weight`).at(i, j) * mixed[b]![t]![j]!),
  );
}

function specsOf(config: GatedDeltaNetConfig): ReadonlyMap<string, ParameterSpec> {
  const registry = new ParameterRegistry();
  const x = input('x', 'float32', ['batch', 'sequence', config.hiddenSize]);
  gatedDeltaNet(config).forward(registry.root(), x, { position: scalar(0, 'int64') });
  return registry.specs;
}

describe('is what its definition says', () => {
  for (const [name, config] of cases) {
    test(name, async () => {
      // dt and A at which the state holds for some tokens.
      const given = {
        dt_bias: [-1, 0.5, -2, 0, -0.5, 1].slice(0, config.numValueHeads),
        A_log: [-1, 0, 0.5, -2, 0.25, -0.5].slice(0, config.numValueHeads),
      };
      const weights = randomWeights(specsOf(config).values(), { deviation: 0.5, given });
      const x = uniform(5, [2, 9, config.hiddenSize], -2, 2);
      const runs = await compileMixer(device, gatedDeltaNet(config), config.hiddenSize, () => weights);
      const expected = definition(config, weights, toArray(x)).data;
      expect(relativeError(await runs.whole(x), expected)).toBeLessThan(2e-6);
    });
  }
});

describe('whole = in chunks = token by token = restored', () => {
  for (const [name, config] of cases) {
    for (const [batch, sequence] of [
      [2, 43],
      [1, 1],
    ] as const) {
      test(`${name}, ${batch} x ${sequence}`, () =>
        checkLaw(device, gatedDeltaNet(config), { hiddenSize: config.hiddenSize, batch, sequence }));
    }
  }
});

describe('gradients', () => {
  const small = { hiddenSize: 6, numValueHeads: 4, keyHeadDim: 8, valueHeadDim: 2, normEpsilon: 0.125 };
  for (const [name, config] of cases.slice(0, 3)) {
    test(name, async () => {
      const mixer = gatedDeltaNet({ ...config, ...small });
      const weights: Record<string, number[]> = {
        dt_bias: [-1, 0.5, -0.5, 0],
        A_log: [-1, 0, 0.25, -0.5],
      };
      // Normalised queries and keys bend where they are short: only long ones are followed by a difference quotient.
      for (const [name, { shape }] of specsOf({ ...config, ...small })) {
        if (/conv1d|qkv|[qk]_proj/.test(name)) weights[name] = [...uniform(9, shape, -2, 2).data].map(Number);
      }
      const gradients = await checkGradients(
        device,
        (parameters, { x }) => mixer.forward(parameters, x!, { position: scalar(0, 'int64') }).output,
        { inputs: { x: uniform(3, [2, 7, small.hiddenSize]) }, weights },
      );
      for (const [name, gradient] of gradients) expect(Math.hypot(...gradient), name).toBeGreaterThan(0);
    });
  }
});

describe('parameters', () => {
  const shapes = (config: GatedDeltaNetConfig) =>
    Object.fromEntries([...specsOf(config)].map(([name, { shape }]) => [name, shape]));
  const common = { 'conv1d.weight': [46, 1, 4], dt_bias: [6], A_log: [6] };

  test('interleaved: those of Qwen3-Next', () => {
    expect(shapes({ ...base, layout: 'interleaved' })).toEqual({
      ...common,
      'in_proj_qkvz.weight': [76, 10],
      'in_proj_ba.weight': [12, 10],
      'norm.weight': [5],
      'out_proj.weight': [10, 30],
    });
  });

  test('joined: those of Qwen3.5', () => {
    expect(shapes(base)).toEqual({
      ...common,
      'in_proj_qkv.weight': [46, 10],
      'in_proj_z.weight': [30, 10],
      'in_proj_b.weight': [6, 10],
      'in_proj_a.weight': [6, 10],
      'norm.weight': [5],
      'out_proj.weight': [10, 30],
    });
  });

  test('separate: those of OLMo Hybrid, whose checkpoints store the convolution in parts', () => {
    const config: GatedDeltaNetConfig = { ...base, layout: 'separate' };
    expect(shapes(config)).toEqual({
      ...common,
      'q_proj.weight': [8, 10],
      'k_proj.weight': [8, 10],
      'v_proj.weight': [30, 10],
      'g_proj.weight': [30, 10],
      'b_proj.weight': [6, 10],
      'a_proj.weight': [6, 10],
      'o_norm.weight': [5],
      'o_proj.weight': [10, 30],
    });
    expect(specsOf(config).get('conv1d.weight')!.parts).toEqual([
      { name: 'q_conv1d.weight', shape: [8, 1, 4] },
      { name: 'k_conv1d.weight', shape: [8, 1, 4] },
      { name: 'v_conv1d.weight', shape: [30, 1, 4] },
    ]);
    expect(specsOf(base).get('conv1d.weight')!.parts).toBeUndefined();
  });

  test('start with A in (0, 16] and dt in [0.001, 0.1]', () => {
    const specs = specsOf(base);
    const drawn = (name: string) => [...specs.get(name)!.initialize(new Random(1), [4096])];
    const A = drawn('A_log').map(Math.exp);
    expect(Math.min(...A)).toBeGreaterThan(0);
    expect(Math.max(...A)).toBeLessThanOrEqual(16 + 1e-5);
    expect(total(4096, (i) => A[i]!) / 4096).toBeCloseTo(8, 0);
    const steps = drawn('dt_bias').map((bias) => Math.log1p(Math.exp(bias)));
    expect(Math.min(...steps)).toBeGreaterThan(0.00099);
    expect(Math.max(...steps)).toBeLessThan(0.101);
    expect(Math.exp(total(4096, (i) => Math.log(steps[i]!)) / 4096)).toBeCloseTo(0.01, 3);
  });
});

test('the state is that of the value heads and of the convolution', () => {
  expect(gatedDeltaNet(base).state.map(({ name, shape }) => [name, shape])).toEqual([
    ['conv', ['batch', 3, 46]],
    ['recurrent', ['batch', 6, 4, 5]],
  ]);
});

test('value heads that cannot share the key heads', () => {
  expect(() => gatedDeltaNet({ ...base, numKeyHeads: 4 })).toThrow(ConfigError);
  expect(() => gatedDeltaNet({ ...base, numKeyHeads: 4 })).toThrow(/6 value heads .* 4 key heads/);
});
