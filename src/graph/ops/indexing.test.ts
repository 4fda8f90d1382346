/** Operators that pick elements by index: values, gradients, and the order of equal elements. */

import { expect, test } from 'vitest';
import { float32 } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { input } from '../tensor.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { topK } from './indexing.js';
import { indexingCases } from './testing/indexing.js';

prove(indexingCases);

test('of equal elements topK takes the earlier first', async () => {
  const { indices } = topK(input('x', 'float32', [6]), 4, 0);
  const executable = await (await cpu()).compile(withInputs({ outputs: { indices } }));
  const results = await executable.run({ x: float32([1, 2, 1, 2, 1, 0], [6]) });
  expect([...results.indices!.data]).toEqual([1n, 3n, 0n, 2n]);
  await executable.dispose();
});
