/** The law for every mixer, and what each declares as its state. */
import { beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.js';
import type { Mixer } from '../mixer.js';
import { ropeFrequencies } from '../rope.js';
import { checkLaw } from '../testing/law.js';
import { attention } from './attention.js';
import { convolvedHeads } from './convolved-heads.js';
import { type Mamba2Config, mamba2 } from './mamba2.js';
import { selectiveAttention, slidingWindowAttention } from './selective.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice('cpu', { threads: 1 });
});

const hiddenSize = 12;
const mamba: Mamba2Config = {
  hiddenSize,
  numHeads: 4,
  headDim: 6,
  stateSize: 5,
  numGroups: 1,
  convKernel: 4,
  convBias: true,
  projectionBias: false,
  timeStepLimit: [0, Number.POSITIVE_INFINITY],
  normGroups: 1,
  normEpsilon: 1e-5,
  outputDeviation: 0.02,
};
const heads = { hiddenSize, numHeads: 4, numKeyValueHeads: 2, headDim: 6, outputDeviation: 0.02 };
const rope = { frequencies: ropeFrequencies(10_000, 6) };

const convolved = {
  ...heads,
  rope,
  inputBias: true,
  heads: convolvedHeads({ ...heads, rope, inputBias: true, depthwiseKernel: 3, groupedKernel: 2 }),
};

const cases: [string, () => Mixer][] = [
  ['mamba2', () => mamba2(mamba)],
  [
    'mamba2 with groups, bias and dt limits',
    () =>
      mamba2({
        ...mamba,
        numGroups: 2,
        normGroups: 2,
        projectionBias: true,
        convBias: false,
        timeStepLimit: [0.01, 0.5],
      }),
  ],
  ['mamba2 with a convolution over one token', () => mamba2({ ...mamba, convKernel: 1 })],
  ['attention', () => attention(heads)],
  ['attention with rope and a head for each query', () => attention({ ...heads, numKeyValueHeads: 4, rope })],
  ['attention with convolved heads', () => attention(convolved)],
  ['sliding window with convolved heads', () => slidingWindowAttention({ ...convolved, window: 7 })],
  ['sliding window', () => slidingWindowAttention({ ...heads, window: 7 })],
  ['sliding window of one', () => slidingWindowAttention({ ...heads, window: 1, rope })],
  ['selective', () => selectiveAttention({ ...heads, window: 5, selected: 6 })],
  ['selective with rope', () => selectiveAttention({ ...heads, window: 4, selected: 3, rope })],
  ['selective with the smallest memory', () => selectiveAttention({ ...heads, window: 1, selected: 1 })],
  ['selective with more room than tokens', () => selectiveAttention({ ...heads, window: 9, selected: 100 })],
];

describe('whole = in chunks = token by token = restored', () => {
  for (const [name, build] of cases) {
    for (const [batch, sequence] of [
      [2, 43],
      [1, 1],
      [3, 6],
    ] as const) {
      test(`${name}, ${batch} x ${sequence}`, () =>
        checkLaw(device, build(), { hiddenSize, batch, sequence }));
    }
  }
});

test('declared states are what the mixers keep', () => {
  expect(mamba2(mamba).state.map(({ name }) => name)).toEqual(['conv', 'ssm']);
  expect(selectiveAttention({ ...heads, window: 1, selected: 2 }).state.map(({ name }) => name)).toEqual([
    'selected_key',
    'selected_value',
    'selected_score',
  ]);
  expect(attention(heads).state.every(({ grows }) => grows === 2)).toBe(true);
});
