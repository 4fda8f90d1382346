/** The gradient of the quantile loss through a whole model of series, and that all of it obeys the law on its state. */
import { describe, expect, test } from 'vitest';
import { float32, openDevice } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { divide, input, multiply, scalar, sum } from '../../graph/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry } from '../../nn/index.js';
import { modelConfig } from '../config.js';
import { hybridModel } from '../hybrid.js';
import { perceive } from '../model.js';
import { checkSlopes } from '../testing/gradients.js';
import { tinyConfig, tinyWeights } from '../testing/tiny.js';

const device = await openDevice('cpu', { threads: 1 });
const { vocabSize: _, eosTokenId: __, ...base } = tinyConfig({ pattern: 'M-' });
const model = hybridModel(
  modelConfig({
    ...base,
    input: {
      kind: 'series',
      channels: ['a', 'b'],
      targets: ['b'],
      patch: 2,
      horizon: 3,
      quantiles: [0.5],
      offset: [0, 1],
      scale: [1, 2],
    },
  }),
);

describe('a model of series', () => {
  test('does not see what comes later, and nothing of what is missing', async () => {
    const registry = new ParameterRegistry();
    const inputs = {
      values: input('values', 'float32', [1, 6, 2, 2]),
      observed: input('observed', 'float32', [1, 6, 2, 2]),
    };
    const { said } = perceive(model, registry, inputs, scalar(0, 'int64'));
    const executable = await device.compile(withInputs({ outputs: said, weights: tinyWeights(model) }));
    const x = uniform(1, [1, 6, 2, 2], -2, 2).data as Float32Array;
    const seen = x.map((_, i) => (i % 5 === 0 ? 0 : 1));
    const run = async (values: Float32Array) =>
      (await executable.run({ values: float32(values, [1, 6, 2, 2]), observed: float32(seen, [1, 6, 2, 2]) }))
        .scaled!.data as Float32Array;
    const whole = await run(x);
    const later = await run(x.map((value, i) => (i >= 16 ? value + 1 : value)));
    const size = whole.length / 6;
    expect(later.subarray(0, 4 * size)).toEqual(whole.subarray(0, 4 * size));
    expect(relativeError(later.subarray(4 * size), whole.subarray(4 * size))).toBeGreaterThan(1e-3);
    expect(await run(x.map((value, i) => (i % 5 === 0 ? 99 : value)))).toEqual(whole);
  });

  test('has the gradient that difference quotients show, of its input layer and its output', async () => {
    const registry = new ParameterRegistry();
    const inputs = {
      values: input('values', 'float32', [2, 5, 2, 2]),
      observed: input('observed', 'float32', [2, 5, 2, 2]),
    };
    const { scaled, spread, center } = perceive(model, registry, inputs, scalar(0, 'int64')).said;
    const loss = sum(multiply(divide(multiply(sum(scaled!, [2, 4]), spread!), 3), center!));
    const names = ['input.weight', 'input.bias', 'output.weight'];
    await checkSlopes(
      device,
      loss,
      Object.fromEntries(names.map((name) => [name, registry.tensors.get(name)!])),
      {
        ...Object.fromEntries(tinyWeights(model)),
        values: uniform(2, [2, 5, 2, 2], -2, 2),
        observed: float32(
          Array.from({ length: 40 }, (_, i) => (i % 6 === 0 ? 0 : 1)),
          [2, 5, 2, 2],
        ),
      },
    );
  });
});
