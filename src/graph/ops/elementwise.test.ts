/** Element-wise operators: values, gradients, overflow, ties, and where no gradient flows. */
import { describe, expect, test } from 'vitest';
import { float32 } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { gradient } from '../gradient.js';
import { input, type Tensor } from '../tensor.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { silu } from './activation.js';
import { sum } from './broadcast.js';
import { absolute, add, cast, detach, maximum, minimum, multiply, sigmoid, softplus } from './elementwise.js';
import { binaryCases } from './testing/binary.js';
import { unaryCases } from './testing/unary.js';

prove(binaryCases);
prove(unaryCases);

/** f(x) and df/dx at some points. */
async function evaluate(f: (x: Tensor) => Tensor, points: readonly number[]) {
  const x = input('x', 'float32', [points.length]);
  const y = f(x);
  const executable = await (await cpu()).compile(
    withInputs({ outputs: { y, dx: gradient(sum(y), [x])[0]! } }),
  );
  const { y: values, dx } = await executable.run({ x: float32(points, [points.length]) });
  await executable.dispose();
  return { values: [...values!.data], slopes: [...dx!.data] };
}

describe('far from zero', () => {
  // Where exp(x) overflows float32.
  test.each([
    ['sigmoid', sigmoid, [0, 1], [0, 0]],
    ['softplus', softplus, [0, 200], [0, 1]],
    ['silu', silu, [0, 200], [0, 1]],
  ])('%s and its derivative stay finite', async (_, f, values, slopes) => {
    const result = await evaluate(f, [-200, 200]);
    for (const i of [0, 1]) {
      expect(result.values[i]).toBeCloseTo(values[i]!, 5);
      expect(result.slopes[i]).toBeCloseTo(slopes[i]!, 5);
    }
  });
});

describe('where no gradient flows', () => {
  test('detach keeps the value and stops the gradient', async () => {
    const { values, slopes } = await evaluate((x) => multiply(x, detach(x)), [2, -3]);
    expect(values).toEqual([4, 9]);
    expect(slopes).toEqual([2, -3]);
  });

  test('cast stops the gradient', async () => {
    const { values, slopes } = await evaluate((x) => add(x, cast(cast(x, 'int64'), 'float32')), [2.5, -1.5]);
    expect(values).toEqual([4.5, -2.5]);
    expect(slopes).toEqual([1, 1]);
  });

  test('the derivative of |x| at 0 is 1', async () => {
    expect((await evaluate(absolute, [0])).slopes).toEqual([1]);
  });
});

describe('ties', () => {
  test.each([
    ['maximum', maximum],
    ['minimum', minimum],
  ])('the gradient of %s goes to its first operand', async (_, operator) => {
    const a = input('a', 'float32', [3]);
    const b = input('b', 'float32', [3]);
    const [da, db] = gradient(sum(operator(a, b)), [a, b]);
    const executable = await (await cpu()).compile(withInputs({ outputs: { da: da!, db: db! } }));
    const same = float32([-1, 0, 2], [3]);
    const results = await executable.run({ a: same, b: same });
    expect([...results.da!.data]).toEqual([1, 1, 1]);
    expect([...results.db!.data]).toEqual([0, 0, 0]);
    await executable.dispose();
  });
});
