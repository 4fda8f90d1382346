/** What every mixer owes, as one suite: its definition, the law, and its gradients. */
import { describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.js';
import { scalar } from '../../graph/index.js';
import type { NdArray } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import type { Mixer } from '../mixer.js';
import { checkDefinition, parametersOf } from './definition.js';
import { checkGradients } from './gradients.js';
import { checkLaw } from './law.js';

/** A mixer and its definition, which tests compare. */
export interface MixerProof {
  readonly mixer: Mixer;
  readonly hiddenSize: number;
  /** Values of some parameters by name, such as decays at which the state holds for some tokens; the others are random. */
  readonly weights?: Readonly<Record<string, readonly number[]>>;
  /** What the mixer makes of x [batch, sequence, hiddenSize], in float64. */
  readonly definition: (weight: (name: string) => NdArray, x: NdArray) => NdArray;
  /** A smaller one of its kind, all of whose gradients are taken; `mixer` by default. */
  readonly small?: Pick<MixerProof, 'mixer' | 'hiddenSize' | 'weights'>;
}

const devices: Readonly<Record<string, () => Promise<Device>>> = {
  onnxruntime: () => openDevice('cpu', { threads: 1 }),
  wasm: () => openDevice('wasm', { threads: 2 }),
};

/** Declares the tests of one mixer, on every device that runs here. */
export function proveMixer(name: string, proof: MixerProof): void {
  const { mixer, hiddenSize, weights = {}, definition, small = proof } = proof;
  describe(name, () => {
    for (const [engine, open] of Object.entries(devices)) {
      test(`is what its definition says (${engine})`, async () =>
        checkDefinition(await open(), mixer, { hiddenSize, weights }, definition));

      for (const [batch, sequence] of [
        [2, 43],
        [1, 1],
      ] as const) {
        test(`whole = in chunks = token by token = restored, ${batch} x ${sequence} (${engine})`, async () =>
          checkLaw(await open(), mixer, { hiddenSize, batch, sequence }));
      }
    }

    test('has its gradients', async () => {
      const gradients = await checkGradients(
        await devices.onnxruntime!(),
        (parameters, { x }) => small.mixer.forward(parameters, x!, { position: scalar(0, 'int64') }).output,
        {
          inputs: { x: uniform(3, [2, 7, small.hiddenSize]) },
          ...(small.weights && { weights: small.weights }),
        },
      );
      expect(gradients.size).toBe(parametersOf(small.mixer, small.hiddenSize).size + 1);
      for (const [of, gradient] of gradients) expect(Math.hypot(...gradient), of).toBeGreaterThan(0);
    });
  });
}

/** Values for the parameters whose names match `pattern`, so large that a difference quotient can follow what is normalised. */
export function spreadWeights(
  mixer: Mixer,
  hiddenSize: number,
  pattern: RegExp,
): Readonly<Record<string, readonly number[]>> {
  const found = [...parametersOf(mixer, hiddenSize)].filter(([name]) => pattern.test(name));
  return Object.fromEntries(
    found.map(([name, { shape }]) => [name, [...uniform(9, shape, -2, 2).data].map(Number)]),
  );
}
