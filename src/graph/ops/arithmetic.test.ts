/** Operators of two operands: values, gradients, and what happens where the operands are equal. */
import { describe, expect, test } from 'vitest';
import { float32 } from '../../engine/index.js';
import { gradient } from '../gradient.js';
import { input } from '../tensor.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { maximum, minimum } from './arithmetic.js';
import { sum } from './reduce.js';
import { arithmeticCases } from './testing/arithmetic.js';

prove(arithmeticCases);

describe('ties', () => {
  test.each([
    ['maximum', maximum],
    ['minimum', minimum],
  ])('the gradient of %s goes to its first operand', async (_, operator) => {
    const a = input('a', 'float32', [3]);
    const b = input('b', 'float32', [3]);
    const [da, db] = gradient(sum(operator(a, b)), [a, b]);
    const executable = await (await cpu()).compile({ outputs: { da: da!, db: db! } });
    const same = float32([-1, 0, 2], [3]);
    const results = await executable.run({ a: same, b: same });
    expect([...results.da!.data]).toEqual([1, 1, 1]);
    expect([...results.db!.data]).toEqual([0, 0, 0]);
    await executable.dispose();
  });
});
