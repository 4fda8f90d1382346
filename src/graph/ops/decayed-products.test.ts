/** Products of rows that decay over the steps between them. */
import { expect, test } from 'vitest';
import { ShapeError } from '../../errors.js';
import { input } from '../tensor.js';
import { prove } from '../testing/prove.js';
import { decayedProducts } from './decayed-products.js';
import { decayedProductsCases } from './testing/decayed-products.js';

prove(decayedProductsCases);

test('operands of other shapes are refused', () => {
  const of = (...shape: (number | string)[]) => input('x', 'float32', shape);
  const [x, y] = [of(1, 1, 8, 3), of(1, 1, 8, 2)];
  expect(() => decayedProducts([x], [y], x)).toThrow('operands of one shape');
  for (const other of [of(1, 1, 6, 3), of(1, 1, 'n', 3), of(8, 3)])
    expect(() => decayedProducts([other], [other], other)).toThrow(ShapeError);
});
