/**
 * Hidden attention: a layer's output equals its matrices times its inner inputs, the matrices equal their definition in
 * float64, and so do the write, keep and erase gates.
 */

import { beforeAll, describe, expect, test } from 'vitest';
import { type Device, type HostTensor, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import {
  add,
  causalConvolution,
  concat,
  constant,
  gelu,
  geluTanh,
  input,
  iota,
  matmul,
  multiply,
  reshape,
  scalar,
  sigmoid,
  silu,
  slice,
  split,
  subtract,
  sum,
  type Tensor,
  transpose,
  zeros,
} from '../graph/index.js';
import { type NdArray, relativeError, tabulate, toArray, total } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import {
  attention,
  type ConvolutionSight,
  deltaProduct,
  type GatedDeltaNetConfig,
  gatedDeltaNet,
  gatedDeltaNet2,
  type KimiDeltaConfig,
  kimiDeltaAttention,
  layerNorm,
  linear,
  type Mixer,
  mamba1,
  mamba2,
  mamba3,
  mergeHeads,
  ParameterRegistry,
  type Parameters,
  type RecurrenceSight,
  recurrentBlock,
  rmsNorm,
  rwkv7,
  type ScanSight,
  type Sight,
  selectiveAttention,
  shortConvolution,
  slidingWindowAttention,
  splitHeads,
  timeInvariant,
} from '../nn/index.js';
import { randomWeights } from '../nn/testing/weights.js';
import { decaysOf, gatesOf, headsOf, matricesOf } from './hidden-attention.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice('cpu', { threads: 1 });
});

const hiddenSize = 10;
const tokens = 23;

/** Recomputes a layer from its matrices [heads, tokens, tokens] and its token-wise operations. */
type Remade = (p: Parameters, u: Tensor, matrices: Tensor) => Tensor;

interface Case {
  readonly mixer: Mixer;
  readonly remade: Remade;
  readonly heads: number;
}

/** matrices x, for x [1, tokens, heads * size]. */
function mixed(matrices: Tensor, x: Tensor): Tensor {
  return mergeHeads(matmul(matrices, splitHeads(x, matrices.shape[0] as number)));
}

function convolved(p: Parameters, name: string, x: Tensor, kernel: number, bias: boolean): Tensor {
  const channels = x.shape[2] as number;
  const get = (what: string, shape: number[]): Tensor => p.get(`${name}.${what}`, shape, never);
  const weight = get('weight', [channels, 1, kernel]);
  return causalConvolution(x, weight, bias ? get('bias', [channels]) : undefined).output;
}

const never = (): never => {
  throw new Error('the layer itself has made this parameter');
};

function parts(x: Tensor, sizes: readonly number[]): Tensor[] {
  return split(x, -1, sizes);
}

const mamba2Config = {
  hiddenSize,
  numHeads: 6,
  headDim: 4,
  stateSize: 5,
  numGroups: 2,
  convKernel: 4,
  convBias: true,
  projectionBias: true,
  timeStepLimit: [0.01, 2] as const,
  normGroups: 2,
  normEpsilon: 1e-5,
  outputDeviation: 0.02,
};
const deltaConfig: GatedDeltaNetConfig = {
  hiddenSize,
  numKeyHeads: 2,
  numValueHeads: 6,
  keyHeadDim: 4,
  valueHeadDim: 5,
  convKernel: 4,
  layout: 'joined',
  negativeEigenvalues: true,
  normEpsilon: 1e-6,
  outputDeviation: 0.02,
};

const kdaConfig: KimiDeltaConfig = {
  hiddenSize,
  numHeads: 3,
  keyHeadDim: 4,
  valueHeadDim: 5,
  convKernel: 4,
  decay: { rank: 4 },
  outputGate: { per: 'channel' },
  negativeEigenvalues: true,
  normEpsilon: 1e-6,
  outputDeviation: 0.02,
};

/** Recomputes KDA and GDN-2 from their matrices and values. */
function kdaRemade(p: Parameters, u: Tensor, matrices: Tensor, valuesOf: (v: Tensor) => Tensor): Tensor {
  const to = (name: string, width: number): Tensor => p.within(`${name}_proj`, (q) => linear(q, u, width));
  const qkv = concat([to('q', 12), to('k', 12), to('v', 15)], -1);
  const [, , v] = parts(silu(convolved(p, 'conv1d', qkv, 4, false)), [12, 12, 15]) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const heads = matmul(matrices, splitHeads(valuesOf(v), 3));
  const normed = p.within('o_norm', (q) => rmsNorm(q, heads, { epsilon: 1e-6 }));
  const open = sigmoid(to('g', 15));
  return p.within('o_proj', (q) => linear(q, multiply(mergeHeads(normed), open), hiddenSize));
}

/** Recomputes a time-invariant layer from the output of its system. */
function invariantRemade(p: Parameters, u: Tensor, read: Tensor): Tensor {
  const y = gelu(add(read, multiply(u, p.get('D', [hiddenSize], never))));
  const both = p.within('output_linear', (q) => linear(q, y, 2 * hiddenSize, { bias: true }));
  const [value, gate] = parts(both, [hiddenSize, hiddenSize]) as [Tensor, Tensor];
  return multiply(value, sigmoid(gate));
}

const cases: Record<string, Case> = {
  'Mamba-2': {
    mixer: mamba2(mamba2Config),
    heads: 6,
    remade(p, u, matrices) {
      const projected = p.within('in_proj', (q) => linear(q, u, 74, { bias: true }));
      const [z, xBC] = parts(projected, [24, 44, 6]) as [Tensor, Tensor];
      const [x] = parts(silu(convolved(p, 'conv1d', xBC, 4, true)), [24, 20]) as [Tensor];
      const D = p.get('D', [6], never);
      const skip = mergeHeads(multiply(splitHeads(x, 6), reshape(D, [6, 1, 1])));
      const gated = multiply(add(mixed(matrices, x), skip), silu(z));
      const normed = p.within('norm', (q) => rmsNorm(q, gated, { epsilon: 1e-5, groups: 2 }));
      return p.within('out_proj', (q) => linear(q, normed, hiddenSize, { bias: true }));
    },
  },
  Mamba: {
    mixer: mamba1({
      hiddenSize,
      innerSize: 8,
      stateSize: 3,
      timeStepRank: 2,
      convKernel: 4,
      convBias: true,
      projectionBias: false,
      norm: { epsilon: 1e-5, weights: true },
      outputDeviation: 0.02,
    }),
    heads: 8,
    remade(p, u, matrices) {
      const projected = p.within('in_proj', (q) => linear(q, u, 16));
      const [raw, z] = parts(projected, [8, 8]) as [Tensor, Tensor];
      const x = silu(convolved(p, 'conv1d', raw, 4, true));
      const y = add(mixed(matrices, x), multiply(x, p.get('D', [8], never)));
      return p.within('out_proj', (q) => linear(q, multiply(y, silu(z)), hiddenSize));
    },
  },
  'gated delta net': {
    mixer: gatedDeltaNet(deltaConfig),
    heads: 6,
    remade(p, u, matrices) {
      const qkv = p.within('in_proj_qkv', (q) => linear(q, u, 46));
      const [, , v] = parts(silu(convolved(p, 'conv1d', qkv, 4, false)), [8, 8, 30]) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const z = p.within('in_proj_z', (q) => linear(q, u, 30));
      const heads = matmul(matrices, splitHeads(v, 6));
      const normed = p.within('norm', (q) => rmsNorm(q, heads, { epsilon: 1e-6 }));
      return p.within('out_proj', (q) => linear(q, multiply(mergeHeads(normed), silu(z)), hiddenSize));
    },
  },
  'Kimi delta attention': {
    mixer: kimiDeltaAttention(kdaConfig),
    heads: 3,
    remade: (p, u, matrices) => kdaRemade(p, u, matrices, (v) => v),
  },
  'gated delta net 2': {
    mixer: gatedDeltaNet2(kdaConfig),
    heads: 3,
    remade: (p, u, matrices) =>
      kdaRemade(p, u, matrices, (v) => multiply(v, sigmoid(p.within('w_proj', (q) => linear(q, u, 15))))),
  },
  'Mamba-3': {
    mixer: mamba3({
      hiddenSize,
      numHeads: 4,
      headDim: 3,
      stateSize: 8,
      numGroups: 2,
      ropeFraction: 0.5,
      outputDeviation: 0.02,
    }),
    heads: 4,
    remade(p, u, matrices) {
      const projected = p.within('in_proj', (q) => linear(q, u, 70));
      const [z, x] = parts(projected, [12, 12, 46]) as [Tensor, Tensor];
      const D = p.get('D', [4], never);
      const y = add(mixed(matrices, x), mergeHeads(multiply(splitHeads(x, 4), reshape(D, [4, 1, 1]))));
      return p.within('out_proj', (q) => linear(q, multiply(y, silu(z)), hiddenSize));
    },
  },
  'RWKV-7': {
    mixer: rwkv7({
      hiddenSize,
      headDim: 5,
      decayRank: 3,
      gateRank: 4,
      rateRank: 3,
      valueRank: 2,
      layer: 0,
      numLayers: 2,
      normEpsilon: 1e-5,
      outputDeviation: 0.02,
    }),
    heads: 2,
    remade(p, u, matrices) {
      const before = slice(concat([zeros([1, 1, hiddenSize]), u], 1), 1, 0, 'tokens');
      const shares = p.get('x_x', [6, hiddenSize], never);
      const mixedFor = (row: number): Tensor =>
        add(u, multiply(subtract(before, u), reshape(slice(shares, 0, row, row + 1), [hiddenSize])));
      const to = (name: string, x: Tensor): Tensor =>
        p.within(`${name}_proj`, (q) => linear(q, x, hiddenSize));
      const low = (name: string, x: Tensor, rank: number): Tensor =>
        p.within(`${name}_lora.lora.0`, (q) => linear(q, x, rank));
      const [r, v] = [to('r', mixedFor(0)), to('v', mixedFor(3))];
      const rate = sigmoid(
        p.within('a_lora.lora.2', (q) => linear(q, low('a', mixedFor(4), 3), hiddenSize, { bias: true })),
      );
      const kept = multiply(subtract(rate, 1), p.get('k_a', [hiddenSize], never));
      const key = multiply(to('k', mixedFor(2)), add(kept, 1));
      const bonus = reshape(p.get('r_k', [2, 5], never), [hiddenSize]);
      const own = sum(splitHeads(multiply(multiply(r, key), bonus), 2), -1, { keepDims: true });
      const read = p.within('g_norm', (q) =>
        layerNorm(q, mixed(matrices, v), { centered: true, epsilon: 5e-5, groups: 2 }),
      );
      const both = add(read, mergeHeads(multiply(splitHeads(v, 2), own)));
      const g = p.within('g_lora.lora.2', (q) => linear(q, sigmoid(low('g', mixedFor(5), 4)), hiddenSize));
      return to('o', multiply(both, g));
    },
  },
  'time-invariant state space': {
    mixer: timeInvariant({
      hiddenSize,
      matrix: { kind: 'diagonal', initial: 'lin' },
      stateSize: 6,
      discretization: 'zero-order hold',
      outputDeviation: 0.02,
    }),
    heads: hiddenSize,
    remade: (p, u, matrices) => invariantRemade(p, u, mixed(matrices, u)),
  },
  'time-invariant state space, full': {
    mixer: timeInvariant({
      hiddenSize,
      matrix: { kind: 'full' },
      stateSize: 6,
      discretization: 'bilinear',
      outputDeviation: 0.02,
    }),
    heads: hiddenSize,
    // Its matrices have each token's contribution to a channel, so a row's sum is the output.
    remade: (p, u, matrices) =>
      invariantRemade(p, u, transpose(reshape(sum(matrices, -1), [1, hiddenSize, 'tokens']), [0, 2, 1])),
  },
  'gated linear recurrent unit': {
    mixer: recurrentBlock({ hiddenSize, lruWidth: 6, numBlocks: 2, convKernel: 4, outputDeviation: 0.02 }),
    heads: 6,
    remade(p, u, matrices) {
      const to = (name: string): Tensor => p.within(name, (q) => linear(q, u, 6, { bias: true }));
      const x = convolved(p, 'conv_1d', to('linear_x'), 4, true);
      const gated = multiply(mixed(matrices, x), geluTanh(to('linear_y')));
      return p.within('linear_out', (q) => linear(q, gated, hiddenSize, { bias: true }));
    },
  },
  'short convolution': {
    mixer: shortConvolution({ hiddenSize, convKernel: 3, bias: true, outputDeviation: 0.02 }),
    heads: hiddenSize,
    remade(p, u, matrices) {
      const projected = p.within('in_proj', (q) => linear(q, u, 30, { bias: true }));
      const [, C, x] = parts(projected, [10, 10, 10]) as [Tensor, Tensor, Tensor];
      const beside = multiply(C, p.get('conv.bias', [10], never));
      return p.within('out_proj', (q) =>
        linear(q, add(mixed(matrices, x), beside), hiddenSize, { bias: true }),
      );
    },
  },
};

/** Runs a mixer over random tokens, with outputs computed from what it exposes. */
async function seen(
  mixer: Mixer,
  outputs: (sight: Sight, u: Tensor, parameters: Parameters) => Record<string, Tensor | undefined>,
): Promise<{ values: Record<string, HostTensor>; y: Float32Array }> {
  const registry = new ParameterRegistry();
  const u = input('u', 'float32', [1, 'tokens', hiddenSize]);
  const sights: Sight[] = [];
  const { output } = mixer.forward(registry.root(), u, {
    position: scalar(0, 'int64'),
    observe: (sight) => sights.push(sight),
  });
  expect(sights).toHaveLength(1);
  const made = Object.entries(outputs(sights[0]!, u, registry.root())).filter(([, tensor]) => tensor);
  const executable = await device.compile(
    withInputs({
      outputs: { y: output, ...(Object.fromEntries(made) as Record<string, Tensor>) },
      weights: randomWeights(registry.specs.values()),
    }),
  );
  const values = await executable.run({ u: uniform(5, [1, tokens, hiddenSize], -2, 2) });
  await executable.dispose();
  return { values, y: values.y!.data as Float32Array };
}

const heads = (...indices: number[]): Tensor =>
  constant(BigInt64Array.from(indices, BigInt), [indices.length]);
const all = (sight: Sight): Tensor => iota(headsOf(sight));

describe.each(Object.entries(cases))('%s', (_, { mixer, remade, heads: count }) => {
  test('equals its matrices times its inner inputs', async () => {
    const { values, y } = await seen(mixer, (sight, u, p) => ({
      remade: remade(p, u, matricesOf(sight, all(sight))),
      matrices: matricesOf(sight, all(sight)),
    }));
    expect(values.matrices!.dims).toEqual([count, tokens, tokens]);
    expect(relativeError(values.remade!.data as Float32Array, y)).toBeLessThan(1e-5);
    expect(Math.hypot(...y)).toBeGreaterThan(0.1);
  });

  test('gives empty matrices for no heads', async () => {
    const { values } = await seen(mixer, (sight) => ({ matrices: matricesOf(sight, heads()) }));
    expect(values.matrices!.dims).toEqual([0, tokens, tokens]);
  });

  test('is causal', async () => {
    const { values } = await seen(mixer, (sight) => ({ matrices: matricesOf(sight, all(sight)) }));
    const matrices = toArray(values.matrices!);
    for (let h = 0; h < count; h++)
      for (let i = 0; i < tokens; i++)
        for (let j = i + 1; j < tokens; j++) expect(matrices.at(h, i, j) === 0).toBe(true);
  });

  test('gives the same matrices for some heads as for all', async () => {
    const some = [1, count - 1];
    const { values } = await seen(mixer, (sight) => {
      const [whole, part] = [gatesOf(sight, all(sight)), gatesOf(sight, heads(...some))];
      return {
        matrices: matricesOf(sight, all(sight)),
        'some matrices': matricesOf(sight, heads(...some)),
        write: whole.write,
        'some write': part.write,
        keep: whole.keep,
        'some keep': part.keep,
        erase: whole.erase,
        'some erase': part.erase,
      };
    });
    for (const what of ['matrices', 'write', 'keep', 'erase']) {
      if (!values[what]) continue;
      const [whole, part] = [toArray(values[what]), toArray(values[`some ${what}`]!)];
      const expected = tabulate(part.dims, (h, ...rest) => whole.at(some[h!]!, ...rest));
      expect(relativeError(part.data, expected.data), what).toBeLessThan(1e-6);
    }
  });
});

describe('the matrices equal their definition in float64', () => {
  /** The sum of `term` over the tokens after j, up to i. */
  const between = (j: number, i: number, term: (t: number) => number): number =>
    total(i - j, (n) => term(j + 1 + n));

  async function check(
    mixer: Mixer,
    operands: (sight: never) => Record<string, Tensor>,
    element: (of: (name: string, ...index: number[]) => number, h: number, i: number, j: number) => number,
  ): Promise<void> {
    const { values } = await seen(mixer, (sight) => ({
      matrices: matricesOf(sight, all(sight)),
      ...operands(sight as never),
    }));
    const arrays = new Map(Object.entries(values).map(([name, value]) => [name, toArray(value)]));
    const of = (name: string, ...index: number[]): number => arrays.get(name)!.at(...index);
    const matrices = arrays.get('matrices')!;
    const expected = tabulate(matrices.dims, (h, i, j) => (j! > i! ? 0 : element(of, h!, i!, j!)));
    expect(relativeError(matrices.data, expected.data)).toBeLessThan(1e-5);
  }

  test('Mamba-2: L * (C B^T) dt', () =>
    check(
      cases['Mamba-2']!.mixer,
      ({ operands, factor }: RecurrenceSight) => ({
        C: operands.query,
        B: operands.key,
        g: operands.gate!,
        dt: factor!,
      }),
      (of, h, i, j) => {
        const group = Math.floor(h / 3);
        const similar = total(5, (n) => of('C', 0, i, group * 5 + n) * of('B', 0, j, group * 5 + n));
        return similar * Math.exp(between(j, i, (t) => of('g', 0, t, h))) * of('dt', 0, j, h);
      },
    ));

  test('Mamba: C_i (product of exp(dt A)) B_j dt_j', () =>
    check(
      cases.Mamba!.mixer,
      ({ operands, factor }: ScanSight) => ({
        C: operands.query,
        B: operands.key,
        s: operands.step,
        A: operands.rate,
        dt: factor,
      }),
      (of, h, i, j) =>
        total(3, (n) => {
          const kept = Math.exp(of('A', h, n) * between(j, i, (t) => of('s', 0, t, h)));
          return of('C', 0, i, n) * kept * of('B', 0, j, n);
        }) * of('dt', 0, j, h),
    ));

  test('gated linear recurrent unit: (product of a) root_j i_j', () =>
    check(
      cases['gated linear recurrent unit']!.mixer,
      ({ operands, factor }: ScanSight) => ({ s: operands.step, A: operands.rate, w: factor }),
      (of, h, i, j) => Math.exp(of('A', h, 0) * between(j, i, (t) => of('s', 0, t, h))) * of('w', 0, j, h),
    ));

  test('short convolution: C_i w_(i-j) B_j', () =>
    check(
      cases['short convolution']!.mixer,
      ({ before, after, weight }: ConvolutionSight) => ({ B: before, C: after, w: multiply(weight, 1) }),
      (of, h, i, j) => (i - j > 2 ? 0 : of('C', 0, i, h) * of('w', h, 0, 2 - (i - j)) * of('B', 0, j, h)),
    ));

  test('gated delta net: what is left of a single written value', () =>
    check(
      cases['gated delta net']!.mixer,
      ({ operands }: RecurrenceSight) => ({
        q: operands.query,
        k: operands.key,
        g: operands.gate!,
        beta: operands.beta!,
      }),
      (of, h, i, j) => {
        const key = Math.floor(h / 3) * 4;
        const state = [0, 0, 0, 0];
        for (let t = j; t <= i; t++) {
          for (const n of state.keys()) state[n]! *= Math.exp(of('g', 0, t, h));
          const found = total(4, (n) => of('k', 0, t, key + n) * state[n]!);
          const written = of('beta', 0, t, h) * ((t === j ? 1 : 0) - found);
          for (const n of state.keys()) state[n]! += of('k', 0, t, key + n) * written;
        }
        return total(4, (n) => of('q', 0, i, key + n) * state[n]!);
      },
    ));
});

describe('write, keep and decay', () => {
  test('Mamba-2: dt, exp(dt A), and the mean of dt |A|', async () => {
    const { values } = await seen(cases['Mamba-2']!.mixer, (sight, u, p) => ({
      ...gatesOf(sight, all(sight)),
      decays: decaysOf(sight),
      projected: p.within('in_proj', (q) => linear(q, u, 74, { bias: true })),
      bias: multiply(p.get('dt_bias', [6], never), 1),
      A: multiply(p.get('A_log', [6], never), 1),
    }));
    const [projected, bias, A] = ['projected', 'bias', 'A'].map((name) => toArray(values[name]!)) as [
      NdArray,
      NdArray,
      NdArray,
    ];
    const dt = tabulate([6, tokens], (h, t) => {
      const raw = Math.log1p(Math.exp(projected.at(0, t!, 68 + h!) + bias.at(h!)));
      return Math.min(2, Math.max(0.01, raw));
    });
    const rate = (h: number): number => Math.exp(A.at(h));
    const keep = tabulate([6, tokens], (h, t) => Math.exp(-dt.at(h!, t!) * rate(h!)));
    const decays = tabulate([6, 1], (h) => (rate(h!) * total(tokens, (t) => dt.at(h!, t))) / tokens);
    expect(relativeError(values.write!.data as Float32Array, dt.data)).toBeLessThan(1e-5);
    expect(relativeError(values.keep!.data as Float32Array, keep.data)).toBeLessThan(1e-5);
    expect(values.decays!.dims).toEqual([6, 1]);
    expect(relativeError(values.decays!.data as Float32Array, decays.data)).toBeLessThan(1e-5);
  });

  test('Mamba: dt, and the mean over the state of exp(dt A)', async () => {
    const { values } = await seen(cases.Mamba!.mixer, (sight) => ({
      ...gatesOf(sight, all(sight)),
      decays: decaysOf(sight),
      dt: (sight as ScanSight).factor,
      A: (sight as ScanSight).operands.rate,
    }));
    const [dt, A] = [toArray(values.dt!), toArray(values.A!)];
    const write = tabulate([8, tokens], (h, t) => dt.at(0, t!, h!));
    const keep = tabulate(
      [8, tokens],
      (h, t) => total(3, (n) => Math.exp(dt.at(0, t!, h!) * A.at(h!, n))) / 3,
    );
    const decays = tabulate(
      [8, 3],
      (h, n) => (-A.at(h!, n!) * total(tokens, (t) => dt.at(0, t, h!))) / tokens,
    );
    expect(relativeError(values.write!.data as Float32Array, write.data)).toBeLessThan(1e-5);
    expect(relativeError(values.keep!.data as Float32Array, keep.data)).toBeLessThan(1e-5);
    expect(relativeError(values.decays!.data as Float32Array, decays.data)).toBeLessThan(1e-5);
  });

  test('gated delta net: beta; a convolution and attention have none', async () => {
    const { values } = await seen(cases['gated delta net']!.mixer, (sight) => ({
      ...gatesOf(sight, all(sight)),
      beta: (sight as RecurrenceSight).operands.beta,
    }));
    const beta = toArray(values.beta!);
    const expected = tabulate([6, tokens], (h, t) => beta.at(0, t!, h!));
    expect(relativeError(values.write!.data as Float32Array, expected.data)).toBeLessThan(1e-6);
    await seen(cases['short convolution']!.mixer, (sight) => {
      expect(gatesOf(sight, heads(0))).toEqual({});
      expect(decaysOf(sight)).toBeUndefined();
      return {};
    });
  });
});

const layer = { hiddenSize, numHeads: 4, numKeyValueHeads: 2, headDim: 6, outputDeviation: 0.02 };
describe.each([
  ['attention', attention(layer), tokens],
  ['sliding window', slidingWindowAttention({ ...layer, window: 5 }), 5],
  ['selective attention', selectiveAttention({ ...layer, window: 3, selected: 4 }), 7],
] as const)('%s', (_, mixer, seenAtMost) => {
  test('rows sum to 1, over no more tokens than its memory holds', async () => {
    const { values } = await seen(mixer, (sight) => ({ matrices: matricesOf(sight, all(sight)) }));
    const matrices = toArray(values.matrices!);
    expect(matrices.dims).toEqual([4, tokens, tokens]);
    for (let h = 0; h < 4; h++) {
      for (let i = 0; i < tokens; i++) {
        const row = Array.from({ length: tokens }, (_, j) => matrices.at(h, i, j));
        expect(total(tokens, (j) => row[j]!)).toBeCloseTo(1, 5);
        expect(row.filter((weight) => weight > 0).length).toBe(Math.min(i + 1, seenAtMost));
      }
    }
  });
});

describe('the erase gate of delta rules', () => {
  /** |r| |D^T f| / |D| of each token, computed element by element. */
  function erased(
    of: (name: string) => NdArray,
    { heads, keySize, valueSize }: { heads: number; keySize: number; valueSize: number },
    rule: (h: number, t: number) => { find: number[]; remove: number[]; written: number[] },
  ): NdArray {
    const [gate, key] = [of('gate'), of('key')];
    const shares = Array.from({ length: heads }, (_, h) => {
      let S = Array.from({ length: keySize }, () => Array<number>(valueSize).fill(0));
      return Array.from({ length: tokens }, (_, t) => {
        const at = (i: number): number => (gate.dims[2] === heads ? h : h * keySize + i);
        S = S.map((row, i) => row.map((value) => value * Math.exp(gate.at(0, t, at(i)))));
        const { find, remove, written } = rule(h, t);
        const found = Array.from({ length: valueSize }, (_, j) =>
          total(keySize, (i) => find[i]! * S[i]![j]!),
        );
        const size = Math.hypot(...S.flat());
        const share = size === 0 ? 0 : (Math.hypot(...remove) * Math.hypot(...found)) / size;
        const k = Array.from({ length: keySize }, (_, i) => key.at(0, t, h * keySize + i));
        S = S.map((row, i) => row.map((value, j) => value - remove[i]! * found[j]! + k[i]! * written[j]!));
        return share;
      });
    });
    return tabulate([heads, tokens], (h, t) => shares[h!]![t!]!);
  }

  async function operandsOf(mixer: Mixer, names: (sight: RecurrenceSight) => Record<string, Tensor>) {
    const { values } = await seen(mixer, (sight) => ({
      ...names(sight as RecurrenceSight),
      erase: gatesOf(sight, all(sight)).erase,
    }));
    return { of: (name: string): NdArray => toArray(values[name]!), found: values.erase! };
  }

  test('Kimi delta attention, by beta', async () => {
    const { of, found } = await operandsOf(kimiDeltaAttention(kdaConfig), ({ operands }) => ({
      gate: operands.gate!,
      key: operands.key,
      value: operands.value,
      beta: operands.beta!,
    }));
    const expected = erased(of, { heads: 3, keySize: 4, valueSize: 5 }, (h, t) => {
      const k = Array.from({ length: 4 }, (_, i) => of('key').at(0, t, h * 4 + i));
      const beta = of('beta').at(0, t, h);
      return {
        find: k,
        remove: k.map((value) => beta * value),
        written: Array.from({ length: 5 }, (_, j) => beta * of('value').at(0, t, h * 5 + j)),
      };
    });
    expect(found.dims).toEqual(expected.dims);
    expect(relativeError(found.data as Float32Array, expected.data)).toBeLessThan(1e-5);
    expect(Math.max(...expected.data)).toBeGreaterThan(0.1);
  });

  test('GDN-2, by separate erase keys', async () => {
    const { of, found } = await operandsOf(gatedDeltaNet2(kdaConfig), ({ operands }) => ({
      gate: operands.gate!,
      key: operands.key,
      value: operands.value,
      find: operands.erase!.find,
    }));
    const expected = erased(of, { heads: 3, keySize: 4, valueSize: 5 }, (h, t) => ({
      find: Array.from({ length: 4 }, (_, i) => of('find').at(0, t, h * 4 + i)),
      remove: Array.from({ length: 4 }, (_, i) => of('key').at(0, t, h * 4 + i)),
      written: Array.from({ length: 5 }, (_, j) => of('value').at(0, t, h * 5 + j)),
    }));
    expect(relativeError(found.data as Float32Array, expected.data)).toBeLessThan(1e-5);
  });

  test('recurrences that only decay and add have no erase gate', async () => {
    const { values } = await seen(mamba2(mamba2Config), (sight) => ({ ...gatesOf(sight, all(sight)) }));
    expect(values.erase).toBeUndefined();
  });
});

test('a delta product has a row and a column for each token, for any number of steps per token', async () => {
  const mixer = deltaProduct({
    hiddenSize,
    numHeads: 2,
    keyHeadDim: 4,
    valueHeadDim: 3,
    steps: 3,
    convKernel: 2,
    negativeEigenvalues: true,
    normEpsilon: 1e-6,
    outputDeviation: 0.02,
  });
  const { values } = await seen(mixer, (sight) => ({
    matrices: matricesOf(sight, all(sight)),
    ...gatesOf(sight, all(sight)),
    decays: decaysOf(sight),
  }));
  expect(values.matrices!.dims).toEqual([2, tokens, tokens]);
  for (const what of ['write', 'keep', 'erase']) expect(values[what]!.dims, what).toEqual([2, tokens]);
  expect(values.decays!.dims).toEqual([2, 1]);
});
