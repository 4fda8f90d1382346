/** Models that transformers does not have: their published definitions, read plainly in float64, and the proof against them. */
import { describe, expect, test } from 'vitest';
import { type HostTensor, openDevice } from '../../engine/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { randomWeights } from '../../nn/testing/weights.js';
import { modelFromConfig } from '../config-file.js';
import { parametersOf } from '../model.js';
import { reader } from './reader.js';

/** A vector in float64. */
export type Vector = number[];

/** The integers from 0 to below `count`. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** The sum of a_i b_(from + i). */
export const dot = (a: Vector, b: ArrayLike<number>, from = 0): number =>
  a.reduce((sum, x, i) => sum + x * b[from + i]!, 0);

/** The sum of two vectors of one length. */
export const added = (a: Vector, b: Vector): Vector => a.map((x, i) => x + b[i]!);

/** A model's weights, and the layers that act on one vector. */
export class PlainWeights {
  constructor(private readonly weights: ReadonlyMap<string, HostTensor>) {}

  at(name: string): ArrayLike<number> {
    return this.weights.get(name)!.data as Float32Array;
  }

  /** Row `index` of a matrix with rows of `width`. */
  row(name: string, index: number, width: number): Vector {
    return Array.from({ length: width }, (_, i) => this.at(name)[index * width + i]!);
  }

  /** W x, without a bias. */
  linear(name: string, x: Vector): Vector {
    const weight = this.at(`${name}.weight`);
    return range(weight.length / x.length).map((row) => dot(x, weight, row * x.length));
  }

  rmsNormed(name: string, x: Vector, epsilon: number): Vector {
    const scale = 1 / Math.sqrt(dot(x, x) / x.length + epsilon);
    return x.map((value, i) => value * scale * this.at(`${name}.weight`)[i]!);
  }

  /** Its bias is left out where the model has none; weights and bias begin at `from`. */
  layerNormed(name: string, x: Vector, epsilon: number, from = 0): Vector {
    const mean = x.reduce((a, b) => a + b) / x.length;
    const centered = x.map((value) => value - mean);
    const scale = 1 / Math.sqrt(dot(centered, centered) / x.length + epsilon);
    const bias = this.weights.get(`${name}.bias`)?.data as Float32Array | undefined;
    return centered.map(
      (value, i) => value * scale * this.at(`${name}.weight`)[from + i]! + (bias?.[from + i] ?? 0),
    );
  }
}

/** Logits of a text, one token after the other. */
export type PlainReading<Config> = (
  config: Config,
  weights: PlainWeights,
  ids: readonly number[],
) => number[];

/** Declares the tests that hold models of these configs against a reading, on both devices and in any pieces. */
export function provePlainly<Config extends Readonly<Record<string, unknown>>>(
  configs: Readonly<Record<string, readonly [config: Config, pattern: string]>>,
  plainly: PlainReading<Config>,
): void {
  describe.each(Object.entries(configs))('%s', (_, [config, pattern]) => {
    test.each(['cpu', 'wasm'] as const)('is its definition on %s, whole and in pieces', async (name) => {
      const device = await openDevice(name, { threads: 1 });
      const model = modelFromConfig(config, 'config.json');
      expect(model.pattern).toBe(pattern);
      const weights = randomWeights(parametersOf(model), { seed: 4 });
      const ids = range(17).map((i) => (i * 7 + 3) % model.vocabSize);
      const expected = plainly(config, new PlainWeights(weights), ids);
      const read = await reader(device, model, weights);
      for (const sizes of [[17], [1], [5, 1, 11]]) {
        expect(relativeError(await read.inPieces([ids], sizes), expected), `${sizes}`).toBeLessThan(2e-5);
      }
      await read.dispose();
      await device.dispose();
    });
  });
}
