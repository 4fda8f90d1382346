/** The law that every mixer obeys: whole = in chunks = token by token = restored in the middle. */
import { expect } from 'vitest';
import type { Device } from '../../engine/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import type { Mixer } from '../mixer.js';
import { compileMixer } from './runs.js';
import { randomWeights } from './weights.js';

/** Sizes for which the law of mixers is tested. */
export interface LawOptions {
  hiddenSize: number;
  batch: number;
  sequence: number;
  tolerance?: number;
}

/** Proves the law for a mixer with random weights and inputs. */
export async function checkLaw(device: Device, mixer: Mixer, options: LawOptions): Promise<void> {
  const { hiddenSize, batch, sequence, tolerance = 1e-5 } = options;
  const runs = await compileMixer(device, mixer, hiddenSize, randomWeights);
  const x = uniform(5, [batch, sequence, hiddenSize], -2, 2);
  const whole = await runs.whole(x);
  const expectWhole = (output: Float32Array, form: string): void => {
    expect(relativeError(output, whole), form).toBeLessThan(tolerance);
  };
  const pieces = [5, 1, 11, 2, 23];
  const chunked = (await runs.inPieces(x, pieces)).output;
  expectWhole((await runs.inPieces(x, [sequence])).output, 'whole with a state');
  expectWhole((await runs.inPieces(x, [1])).output, 'token by token');
  expectWhole(chunked, 'in chunks');
  const restored = (await runs.inPieces(x, pieces, Math.floor(sequence / 2))).output;
  expect(restored, 'restored in the middle').toEqual(chunked);
}
