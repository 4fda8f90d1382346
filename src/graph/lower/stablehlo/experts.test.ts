/** Few tokens have the experts that they use computed, and no others: with the same results. */
import { expect, test } from 'vitest';
import { withInputs } from '../../../engine/testing/with-inputs.js';
import { XlaDevice } from '../../../engine/xla/device.js';
import { EvaluatorClient } from '../../../engine/xla/testing/evaluator-client.js';
import { experts, input } from '../../index.js';
import { expertOperands, referenceExperts } from '../../ops/testing/experts.js';
import { relativeError, toArray } from '../../testing/arrays.js';

test.each(['swiglu', 'relu2'] as const)('%s', async (activation) => {
  for (const chosen of [
    [[4, 1]],
    [[7], [2, 5]],
    [
      [0, 1],
      [1, 2],
      [3, 4],
      [5, 6],
    ],
  ]) {
    const sizes = { tokens: chosen.length, hidden: 3, count: 8, inner: 2, activation };
    const operands = expertOperands(sizes, chosen);
    const names = ['x', 'weights', 'up', 'down'] as const;
    const leaves = names.map((name, i) => input(name, 'float32', operands[i]!.dims));
    const [x, weights, up, down] = leaves;
    const output = experts({ x: x!, weights: weights!, up: up!, down: down! }, { activation, perToken: 2 });
    const client = new EvaluatorClient();
    const device = new XlaDevice(client, { precision: 'float32' });
    const executable = await device.compile(withInputs({ outputs: { output } }));
    const made = await executable.run(Object.fromEntries(names.map((name, i) => [name, operands[i]!])));
    const expected = referenceExperts(sizes, operands.map(toArray));
    expect(relativeError(toArray(made.output!).data, expected.data)).toBeLessThan(1e-6);
    // Four tokens use as many experts as there are.
    expect(client.texts[0]!.includes('stablehlo.sort')).toBe(chosen.length < 4);
  }
});
