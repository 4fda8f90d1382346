/** Reductions and running sums: values, gradients, ties, and axes whose size is known only at run time. */

import { expect, test } from 'vitest';
import { float32 } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { gradient } from '../gradient.js';
import { input } from '../tensor.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { sum } from './broadcast.js';
import { max, mean } from './reduce.js';
import { reduceCases } from './testing/reduce.js';

prove(reduceCases);

test('equal largest elements share the gradient of max', async () => {
  const x = input('x', 'float32', [2, 3]);
  const [dx] = gradient(sum(max(x, 1)), [x]);
  const executable = await (await cpu()).compile(withInputs({ outputs: { dx: dx! } }));
  const results = await executable.run({ x: float32([1, 2, 2, 5, 5, 5], [2, 3]) });
  expect([...results.dx!.data]).toEqual([0, 0.5, 0.5, ...Array(3).fill(Math.fround(1 / 3))]);
  await executable.dispose();
});

test('the mean over a symbolic axis divides by its size at run time', async () => {
  const x = input('x', 'float32', ['sequence', 2]);
  const y = mean(x, 0);
  const [dx] = gradient(sum(y), [x]);
  const executable = await (await cpu()).compile(withInputs({ outputs: { y, dx: dx! } }));
  const results = await executable.run({ x: float32([1, 2, 3, 4, 8, 9], [3, 2]) });
  expect([...results.y!.data]).toEqual([4, 5]);
  expect([...results.dx!.data]).toEqual(Array(6).fill(Math.fround(1 / 3)));
  await executable.dispose();
});
