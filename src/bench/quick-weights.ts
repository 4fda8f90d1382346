/** Random weights for speed measurements, as large as real ones and fast to make. */
import { float32, type HostTensor } from '../engine/index.js';
import { type ParameterSpec, Random } from '../nn/index.js';

/** Number of elements from which a matrix gets uniform numbers. */
const MANY = 10_000;
/** Half the width of their interval: a standard deviation of 0.02. */
const BOUND = 0.02 * Math.sqrt(3);

/** Matrices of many elements get uniform numbers with the standard deviation 0.02, smaller ones the model's own initialization. */
export function quickWeights(parameters: readonly ParameterSpec[]): Map<string, HostTensor> {
  const random = new Random(1);
  let state = 1;
  const uniform = (): number => {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
  return new Map(
    parameters.map(({ name, shape, initialize }) => {
      const size = shape.reduce((a, b) => a * b, 1);
      if (size < MANY || shape.length < 2) return [name, float32(initialize(random, shape), shape)];
      const values = new Float32Array(size);
      for (let i = 0; i < size; i++) values[i] = BOUND * uniform();
      return [name, float32(values, shape)];
    }),
  );
}
