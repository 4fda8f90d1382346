/** Operands for tests: the same seed gives the same tensor. */
import { float32, type HostTensor } from '../../engine/index.js';
import { count } from './arrays.js';

/**
 * All values lie on this grid, which is so coarse that a value plus a step of a finite difference is exact in float32:
 * the difference then measures the function and not the rounding of its argument.
 */
export const GRID = 2 ** -10;

/** Uniform numbers in [0, 1): Steele & Vigna's splitmix, in 32 bits. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32;
  };
}

/** Uniform values from `low` to `high`. */
export function uniform(seed: number, dims: readonly number[], low = -1, high = 1): HostTensor {
  const next = generator(seed);
  const steps = (high - low) / GRID;
  return float32(
    Array.from({ length: count(dims) }, () => low + Math.round(next() * steps) * GRID),
    dims,
  );
}

/**
 * Values in a random order of which no two are closer than 1/4, starting at `from`: for functions that depend on an
 * order, which a finite difference must not change.
 */
export function spaced(seed: number, dims: readonly number[], from = 0): HostTensor {
  const next = generator(seed);
  const values = Array.from({ length: count(dims) }, (_, i) => from + i / 4);
  for (let i = values.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [values[i], values[j]] = [values[j]!, values[i]!];
  }
  return float32(values, dims);
}

/** Truth values. */
export function coins(seed: number, dims: readonly number[]): HostTensor {
  const next = generator(seed);
  return {
    dtype: 'bool',
    dims,
    data: Uint8Array.from({ length: count(dims) }, () => (next() < 0.5 ? 1 : 0)),
  };
}
