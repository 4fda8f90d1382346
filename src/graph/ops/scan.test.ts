/** The scan over states: values, gradients, and shapes that do not fit. */
import { expect, test } from 'vitest';
import { ShapeError } from '../../errors.js';
import { input } from '../tensor.js';
import { prove } from '../testing/prove.js';
import { scan } from './scan.js';
import { scanCases } from './testing/scan.js';

prove(scanCases);

test('shapes that do not fit are refused', () => {
  const of = (...shape: (number | string)[]) => input('x', 'float32', shape);
  const elements = { product: 'elements', reverse: false } as const;
  const matrix = { product: 'matrix', reverse: false } as const;
  for (const [build, message] of [
    [() => scan(of(4, 2, 3), of(4, 2, 3), of(2, 2), elements), 'the state must be [2,3]'],
    [() => scan(of(4, 2, 2), of(4, 2, 3), of(2, 3), elements), 'the transitions do not fit [4,2,3]'],
    [() => scan(of(1, 2, 3), of(4, 2, 3), of(2, 3), elements), 'the transitions do not fit [4,2,3]'],
    [() => scan(of(4, 2, 3), of(4, 2, 3), of(2, 3), matrix), 'the transitions do not fit [4,2,3]'],
    [() => scan(of('n', 3, 3), of(4, 2, 3), of(2, 3), matrix), 'the transitions do not fit [4,2,3]'],
    [() => scan(of(2, 4, 3), of(2, 4, 3), of(4, 3), { ...elements, axis: 1 }), 'the state must be [2,3]'],
    [
      () => scan(of(2, 2, 2), of(2, 2, 2), of(2, 2), { ...matrix, axis: 1 }),
      'the transitions do not fit [2,2,2]',
    ],
  ] as const) {
    expect(build).toThrow(ShapeError);
    expect(build).toThrow(message);
  }
});
