/** Inverses: values, gradients, and how far from the identity a matrix may be. */
import { describe, expect, test } from 'vitest';
import { float32 } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { ShapeError } from '../../errors.js';
import { input } from '../tensor.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { inverse } from './inverse.js';
import { matmul } from './matmul.js';
import { inverseCases } from './testing/inverse.js';

prove(inverseCases);

describe('I plus a skew matrix', () => {
  for (const [size, spread] of [
    [16, 1],
    [64, 2],
    [64, 8],
  ] as const) {
    test(`of ${size} rows with elements up to ${spread}`, async () => {
      const random = uniform(1, [size, size], -spread, spread).data as Float32Array;
      const skew = Float32Array.from(random, (value, place) => {
        const [i, j] = [Math.floor(place / size), place % size];
        return i === j ? 1 : i < j ? value : -random[j * size + i]!;
      });
      const a = input('a', 'float32', [size, size]);
      const executable = await (await cpu()).compile(
        withInputs({ outputs: { product: matmul(a, inverse(a)) } }),
      );
      const { product } = await executable.run({ a: float32(skew, [size, size]) });
      const worst = (product!.data as Float32Array).reduce((most, value, place) => {
        const wanted = Number(Math.floor(place / size) === place % size);
        return Math.max(most, Math.abs(value - wanted));
      }, 0);
      expect(worst).toBeLessThan(1e-4);
      await executable.dispose();
    });
  }
});

test('matrices that are not square are refused', () => {
  expect(() => inverse(input('a', 'float32', [2, 3]))).toThrow(ShapeError);
  expect(() => inverse(input('a', 'float32', [2, 3]))).toThrow('expected square');
});
