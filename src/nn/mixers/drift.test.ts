/**
 * Recurrences that are stable by construction do not drift: over a long stream, read in two ways that round differently, they say the same at
 * its end as at its beginning. `npm run bench -- drift` does it for a million tokens of whole models.
 */
import { beforeAll, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import type { Mixer } from '../mixer.js';
import { compileMixer } from '../testing/runs.js';
import { randomWeights } from '../testing/weights.js';
import { deltaProduct } from './delta-product.js';
import { gatedDeltaNet } from './gated-delta-net.js';
import { gatedDeltaNet2 } from './gdn2.js';
import { kimiDeltaAttention } from './kda.js';
import { lightningAttention, lightningSlopes } from './lightning.js';
import { mamba1 } from './mamba1.js';
import { mamba2 } from './mamba2.js';
import { mamba3 } from './mamba3.js';
import { recurrentBlock } from './rg-lru.js';
import { rwkv7 } from './rwkv7.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice('cpu', { threads: 1 });
});

const hiddenSize = 8;
const [tokens, end] = [16_384, 512];
const shared = { hiddenSize, normEpsilon: 1e-5, convKernel: 4, outputDeviation: 0.1 };
const heads = { numHeads: 2, keyHeadDim: 4, valueHeadDim: 4 };
const mamba = { ...shared, numHeads: 2, headDim: 4, stateSize: 4, numGroups: 1 };
const channels = {
  ...shared,
  ...heads,
  decay: { rank: 4 },
  outputGate: { per: 'channel', rank: 4 } as const,
};

const deltaNet = {
  ...shared,
  numKeyHeads: 2,
  numValueHeads: 2,
  keyHeadDim: 4,
  valueHeadDim: 4,
  layout: 'joined',
} as const;

const mixers: Readonly<Record<string, () => Mixer>> = {
  'Mamba-2': () =>
    mamba2({
      ...mamba,
      convBias: true,
      projectionBias: false,
      timeStepLimit: [0, Number.POSITIVE_INFINITY],
      normGroups: 1,
    }),
  Mamba: () =>
    mamba1({
      ...shared,
      innerSize: 8,
      stateSize: 4,
      timeStepRank: 1,
      convBias: true,
      projectionBias: false,
    }),
  'Mamba-3': () => mamba3({ ...mamba, ropeFraction: 0.5 }),
  'the gated delta net': () => gatedDeltaNet({ ...deltaNet, negativeEigenvalues: false }),
  'the gated delta net, beta up to 2': () => gatedDeltaNet({ ...deltaNet, negativeEigenvalues: true }),
  'Kimi delta attention': () => kimiDeltaAttention({ ...channels, negativeEigenvalues: true }),
  'GDN-2': () => gatedDeltaNet2({ ...channels, negativeEigenvalues: false }),
  'the delta product': () => deltaProduct({ ...shared, ...heads, steps: 2, negativeEigenvalues: true }),
  'lightning attention': () =>
    lightningAttention({ ...shared, headDim: 4, slopes: lightningSlopes(2, 0, 2) }),
  'the gated linear recurrent unit': () => recurrentBlock({ ...shared, lruWidth: hiddenSize, numBlocks: 2 }),
  'RWKV-7': () =>
    rwkv7({
      ...shared,
      headDim: 4,
      decayRank: 4,
      gateRank: 4,
      rateRank: 4,
      valueRank: 4,
      layer: 0,
      numLayers: 2,
    }),
};

for (const [name, build] of Object.entries(mixers)) {
  test(`${name} does not drift over ${tokens} tokens`, async () => {
    const runs = await compileMixer(device, build(), hiddenSize, randomWeights);
    const x = uniform(5, [1, tokens, hiddenSize], -2, 2);
    const [short, long] = [(await runs.inPieces(x, [24])).output, (await runs.inPieces(x, [1000])).output];
    const differenceFrom = (first: number): number => {
      const part = (all: Float32Array): Float32Array =>
        all.subarray(first * hiddenSize, (first + end) * hiddenSize);
      return relativeError(part(short), part(long));
    };
    const [atFirst, atLast] = [differenceFrom(0), differenceFrom(tokens - end)];
    expect(atLast).toBeLessThan(1e-5);
    expect(atLast).toBeLessThan(Math.max(1e-6, 10 * atFirst));
  });
}
