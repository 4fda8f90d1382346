/**
 * Gradients of every mixer, with respect to all its parameters and its input, against difference quotients. The form
 * that is differentiated is the one that trains: no state, positions from 0.
 */
import { describe, expect, test } from 'vitest';
import { type HostTensor, openDevice } from '../../engine/index.js';
import { scalar } from '../../graph/index.js';
import { spaced, uniform } from '../../graph/testing/random.js';
import { mlp } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { ropeFrequencies } from '../rope.js';
import { checkGradients } from '../testing/gradients.js';
import { attention } from './attention.js';
import { type Mamba2Config, mamba2 } from './mamba2.js';
import { selectiveAttention, slidingWindowAttention } from './selective.js';

const device = await openDevice('cpu', { threads: 1 });
const hiddenSize = 6;
const [batch, sequence] = [2, 9];

function gradientsOf(
  mixer: Mixer,
  options: { x?: HostTensor; weights?: Readonly<Record<string, readonly number[]>> } = {},
): Promise<Map<string, Float32Array>> {
  const { x = uniform(3, [batch, sequence, hiddenSize]), weights = {} } = options;
  return checkGradients(
    device,
    (parameters, { x }) => mixer.forward(parameters, x!, { position: scalar(0, 'int64') }).output,
    { inputs: { x }, weights },
  );
}

function norm(values: Float32Array | undefined): number {
  return Math.hypot(...values!);
}

describe('mamba2', () => {
  const config: Mamba2Config = {
    hiddenSize,
    numHeads: 2,
    headDim: 3,
    stateSize: 4,
    numGroups: 1,
    convKernel: 4,
    convBias: true,
    projectionBias: false,
    timeStepLimit: [0, Number.POSITIVE_INFINITY],
    normGroups: 1,
    // A small one bends the norm of a small output more than a difference quotient can follow.
    normEpsilon: 0.125,
    outputDeviation: 0.02,
  };
  // Where new models start, dt is so small that the state hardly matters.
  const weights = { dt_bias: [-0.5, 0.5], A_log: [-1, 0.25] };

  test('one group', async () => {
    const gradients = await gradientsOf(mamba2(config), { weights });
    expect([...gradients.keys()].sort()).toEqual(
      ['A_log', 'D', 'conv1d.bias', 'conv1d.weight', 'dt_bias', 'in_proj.weight', 'norm.weight']
        .concat('out_proj.weight', 'x')
        .sort(),
    );
    for (const [name, gradient] of gradients) expect(norm(gradient), name).toBeGreaterThan(0);
  });

  test('groups, bias on the projections and none on the convolution', () =>
    gradientsOf(mamba2({ ...config, numGroups: 2, normGroups: 2, convBias: false, projectionBias: true }), {
      weights,
    }));

  test('several heads a group', () =>
    gradientsOf(mamba2({ ...config, numHeads: 4, headDim: 2, numGroups: 2 }), {
      weights: { dt_bias: [-0.5, 0.5, 0, 1], A_log: [-1, 0.25, 0, -0.5] },
    }));

  test('a dt that is held at its limits takes no gradient', async () => {
    // softplus of these biases lies below, between and above the limits for every token.
    const gradients = await gradientsOf(
      mamba2({ ...config, numHeads: 3, headDim: 2, timeStepLimit: [0.03, 3] }),
      { weights: { dt_bias: [-6, -0.25, 6], A_log: [-1, 0.25, 0] } },
    );
    const bias = gradients.get('dt_bias')!;
    expect(bias[0]).toBe(0);
    expect(Math.abs(bias[1]!)).toBeGreaterThan(0);
    expect(bias[2]).toBe(0);
  });

  test('a convolution over one token', () => gradientsOf(mamba2({ ...config, convKernel: 1 }), { weights }));
});

const heads = { hiddenSize, numHeads: 2, numKeyValueHeads: 2, headDim: 4, outputDeviation: 0.02 };
const grouped = { ...heads, numHeads: 4, numKeyValueHeads: 2 };
const rope = { frequencies: ropeFrequencies(100, 4) };

describe('attention', () => {
  test('a head for each query', () => gradientsOf(attention(heads)));
  test('grouped heads', () => gradientsOf(attention(grouped)));
  test('grouped heads with rope', () => gradientsOf(attention({ ...grouped, rope })));
});

describe('sliding window', () => {
  test('without rope', () => gradientsOf(slidingWindowAttention({ ...grouped, window: 3 })));
  test('with rope', () => gradientsOf(slidingWindowAttention({ ...heads, window: 2, rope })));
  test('of one token', () => gradientsOf(slidingWindowAttention({ ...heads, window: 1 })));
});

describe('selective attention', () => {
  // Scores lie so far apart that no step of a difference quotient changes who is selected: that is where the
  // function is smooth.
  const x = uniform(3, [batch, sequence, hiddenSize]);
  const order = spaced(8, [batch * sequence], -(batch * sequence) / 8).data;
  for (let i = 0; i < order.length; i++) x.data[i * hiddenSize] = order[i] as number;
  const weights = { 'score.weight': [1, 0.03125, -0.03125, 0, 0, 0.03125], 'score.bias': [0.25] };
  const small = { window: 2, selected: 3 };

  const cases: [string, Mixer][] = [
    ['causal', selectiveAttention({ ...grouped, ...small })],
    ['causal with rope', selectiveAttention({ ...heads, ...small, rope })],
    ['causal, all selected', selectiveAttention({ ...heads, window: 2, selected: sequence })],
    ['bidirectional', selectiveAttention({ ...grouped, ...small, causal: false })],
    ['bidirectional with rope', selectiveAttention({ ...heads, ...small, rope, causal: false })],
  ];
  for (const [name, mixer] of cases) {
    test(name, async () => {
      const gradients = await gradientsOf(mixer, { x, weights });
      // The scores learn from the bias alone: without it their gradient would be zero.
      expect(norm(gradients.get('score.weight'))).toBeGreaterThan(1e-3);
      expect(norm(gradients.get('score.bias'))).toBeGreaterThan(1e-4);
    });
  }

  test('scores of a convolution, all selected', async () => {
    const mixer = selectiveAttention({ ...grouped, window: 2, selected: sequence, score: 'convolution' });
    const gradients = await gradientsOf(mixer);
    for (const name of ['score.weight', 'score.bias', 'score.conv.weight', 'score.conv.bias']) {
      expect(norm(gradients.get(name)), name).toBeGreaterThan(1e-4);
    }
  });

  test('a bidirectional sliding window', () =>
    gradientsOf(selectiveAttention({ ...heads, window: 3, selected: 0, causal: false })));
});

test('mlp', () => gradientsOf(mlp({ hiddenSize, intermediateSize: 8, outputDeviation: 0.02 })));
