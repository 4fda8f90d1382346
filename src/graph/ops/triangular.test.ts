/** Inverses of triangular matrices, and the pairs of blocks that cover what is below the diagonal. */
import { expect, test } from 'vitest';
import { ShapeError } from '../../errors.js';
import { input } from '../tensor.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { add } from './elementwise.js';
import { triangularCases } from './testing/triangular.js';
import { blockSizes, identity, pairMask, unitTriangularInverse } from './triangular.js';

prove(triangularCases);

test('the pairs of all sizes cover what is below the diagonal once', async () => {
  for (const size of [1, 2, 6, 8]) {
    const covered = blockSizes(size).reduce((sum, block) => add(sum, pairMask(size, block)), identity(size));
    const executable = await (await cpu()).compile({ inputs: [], outputs: { covered } });
    const { covered: found } = await executable.run({});
    const lower = Array.from({ length: size * size }, (_, i) => Number(i % size <= Math.floor(i / size)));
    expect([...found!.data]).toEqual(lower);
    await executable.dispose();
  }
});

test('matrices that are not square are refused', () => {
  expect(() => unitTriangularInverse(input('a', 'float32', [2, 3]))).toThrow(ShapeError);
  expect(() => unitTriangularInverse(input('a', 'float32', ['n', 'n']))).toThrow('expected square float32');
});
