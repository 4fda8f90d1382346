/** A cache of few bits: the law on every device, what it costs, and how near it is to one of 32 bits. */
import { describe, expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import { type CacheForm, withCache } from './cache.js';
import { chain, named } from './compose.js';
import { type Mixer, stateBytes } from './mixer.js';
import { attention } from './mixers/attention.js';
import { latentAttention } from './mixers/latent-attention.js';
import { slidingWindowAttention } from './mixers/selective.js';
import { ropeFrequencies } from './rope.js';
import { checkLaw } from './testing/law.js';
import { compileMixer } from './testing/runs.js';
import { randomWeights } from './testing/weights.js';

const devices = {
  onnxruntime: await openDevice('cpu', { threads: 1 }),
  wasm: await openDevice('wasm', { threads: 2 }),
};
const hiddenSize = 12;
const heads = { hiddenSize, numHeads: 4, numKeyValueHeads: 2, headDim: 6, outputDeviation: 0.02 };
const rope = { frequencies: ropeFrequencies(100, 6) };
const latent = {
  latentSize: 6,
  keyDim: 3,
  rotaryDim: 4,
  valueDim: 5,
  normEpsilon: 1e-5,
  outputDeviation: 0.02,
};

const mixers: Record<string, Mixer> = {
  'grouped queries': attention({ ...heads, rope }),
  'a latent': latentAttention({ hiddenSize, numHeads: 4, ...latent }),
  'layers of a block': chain(
    named('first', attention(heads)),
    named('window', slidingWindowAttention({ ...heads, window: 4 })),
  ),
};

/** How far a mixer may be from one with a cache of 32 bits. */
const NEAR: Record<CacheForm, number> = { float16: 1e-3, int8: 0.03 };

for (const [form, near] of Object.entries(NEAR) as [CacheForm, number][]) {
  describe(form, () => {
    for (const [name, mixer] of Object.entries(mixers)) {
      for (const [engine, device] of Object.entries(devices)) {
        test(`${name}: whole = in chunks = token by token = restored (${engine})`, () =>
          checkLaw(device, withCache(mixer, form), {
            hiddenSize,
            batch: 2,
            sequence: engine === 'wasm' ? 70 : 43,
          }));
      }

      test(`${name}: near 32 bits, and not the same`, async () => {
        const x = uniform(5, [2, 43, hiddenSize], -2, 2);
        const [exact, rounded] = await Promise.all(
          [mixer, withCache(mixer, form)].map(async (each) =>
            (await compileMixer(devices.onnxruntime, each, hiddenSize, randomWeights)).whole(x),
          ),
        );
        const error = relativeError(rounded!, exact!);
        expect(error).toBeLessThan(near);
        expect(error).toBeGreaterThan(near / 1000);
      });
    }
  });
}

test('entries take a half, or a quarter and a scale for each head', () => {
  const perToken = (mixer: Mixer): number => stateBytes(mixer.state, 1) - stateBytes(mixer.state, 0);
  const mixer = mixers['grouped queries']!;
  expect(perToken(mixer)).toBe(2 * 2 * 6 * 4);
  expect(perToken(withCache(mixer, 'float16'))).toBe(2 * 2 * 6 * 2);
  expect(perToken(withCache(mixer, 'int8'))).toBe(2 * 2 * (6 + 4));
});

test('what has no growing state stays as it is', () => {
  const mixer = slidingWindowAttention({ ...heads, window: 4 });
  expect(withCache(mixer, 'int8')).toBe(mixer);
});
