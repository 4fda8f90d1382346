/** Softmax, cross-entropy and RMS normalisation: values, gradients, and logits that overflow. */

import { expect, test } from 'vitest';
import { float32, int64 } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { gradient } from '../gradient.js';
import { input } from '../tensor.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { sum } from './broadcast.js';
import { crossEntropy, logSumExp, softmax } from './normalize.js';
import { normalizeCases } from './testing/normalize.js';

prove(normalizeCases);

test('logits whose exponential overflows give finite losses and gradients', async () => {
  const logits = input('logits', 'float32', [2, 3]);
  const loss = crossEntropy(logits, input('labels', 'int64', [2]));
  const outputs = {
    loss,
    slope: gradient(sum(loss), [logits])[0]!,
    share: softmax(logits),
    scale: logSumExp(logits),
  };
  const executable = await (await cpu()).compile(withInputs({ outputs }));
  const results = await executable.run({
    logits: float32([1000, 0, -1000, -1000, -1000, -1000], [2, 3]),
    labels: int64([1, 2], [2]),
  });
  const third = Math.fround(1 / 3);
  expect(results.loss!.data[0]).toBe(1000);
  expect(results.loss!.data[1]).toBeCloseTo(Math.log(3), 5);
  expect([...results.share!.data].slice(0, 3)).toEqual([1, 0, 0]);
  expect([...results.slope!.data].slice(0, 3)).toEqual([1, -1, 0]);
  for (const i of [3, 4, 5]) expect(results.share!.data[i]).toBeCloseTo(third, 6);
  expect(results.scale!.data[0]).toBe(1000);
  await executable.dispose();
});
