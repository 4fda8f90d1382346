/** The proof that a mixer is what its paper says: its output against the definition, written out in float64. */
import { expect } from 'vitest';
import type { Device } from '../../engine/index.js';
import { input, scalar } from '../../graph/index.js';
import { type NdArray, relativeError, toArray } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import type { Mixer } from '../mixer.js';
import { ParameterRegistry, type ParameterSpec } from '../parameters.js';
import { compileMixer } from './runs.js';
import { randomWeights } from './weights.js';

/** What a mixer for x [batch, sequence, hiddenSize] asks for, by name. */
export function parametersOf(mixer: Mixer, hiddenSize: number): ReadonlyMap<string, ParameterSpec> {
  const registry = new ParameterRegistry();
  const x = input('x', 'float32', ['batch', 'sequence', hiddenSize]);
  mixer.forward(registry.root(), x, { position: scalar(0, 'int64') });
  return registry.specs;
}

/** For which mixer parameters are made. */
export interface DefinitionOptions {
  hiddenSize: number;
  /** Values of some parameters by name; the others are random. */
  weights?: Readonly<Record<string, readonly number[]>>;
}

/** Runs the mixer over random tokens [2, 9, hiddenSize] and expects what `definition` says. */
export async function checkDefinition(
  device: Device,
  mixer: Mixer,
  { hiddenSize, weights: given = {} }: DefinitionOptions,
  definition: (weight: (name: string) => NdArray, x: NdArray) => NdArray,
): Promise<void> {
  const weights = randomWeights(parametersOf(mixer, hiddenSize).values(), { deviation: 0.5, given });
  const x = uniform(5, [2, 9, hiddenSize], -2, 2);
  const runs = await compileMixer(device, mixer, hiddenSize, () => weights);
  const expected = definition((name) => toArray(weights.get(name)!), toArray(x));
  expect(expected.dims).toEqual(x.dims);
  expect(relativeError(await runs.whole(x), expected.data)).toBeLessThan(5e-6);
}

/** 1 / (1 + e^-x). */
export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
/** x sigmoid(x). */
export const silu = (x: number): number => x * sigmoid(x);
/** log(1 + e^x). */
export const softplus = (x: number): number => Math.log1p(Math.exp(x));
