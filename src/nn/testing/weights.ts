/** Weights for tests: those of a new model, moved so far that every parameter matters. */
import { float32, type HostTensor } from '../../engine/index.js';
import type { ParameterSpec } from '../parameters.js';
import { Random } from '../random.js';

/**
 * A parameter is its initial value plus normal noise of this deviation, rounded to 2^-10: a value plus the step of a
 * finite difference is then exact in float32. `given` holds the values of some by name.
 */
export function randomWeights(
  specs: Iterable<ParameterSpec>,
  options: { seed?: number; deviation?: number; given?: Readonly<Record<string, readonly number[]>> } = {},
): Map<string, HostTensor> {
  const { seed = 1, deviation = 0.3, given = {} } = options;
  const random = new Random(seed);
  return new Map(
    Array.from(specs, ({ name, shape, initialize }) => {
      const moved = initialize(random, shape).map(
        (value) => Math.round((value + deviation * random.normal()) * 1024) / 1024,
      );
      return [name, float32(given[name] ?? moved, shape)];
    }),
  );
}
