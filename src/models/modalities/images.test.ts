/** Images: which pixel goes into which patch, the gradient through a whole model, and configs that cannot be. */
import { expect, test } from 'vitest';
import { float32, openDevice } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { crossEntropy, input, mean, scalar, sum } from '../../graph/index.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry } from '../../nn/index.js';
import { modelConfig } from '../config.js';
import { hybridModel } from '../hybrid.js';
import { type Model, perceive } from '../model.js';
import { checkSlopes } from '../testing/gradients.js';
import { tinyConfig, tinyWeights } from '../testing/tiny.js';

const device = await openDevice('cpu', { threads: 1 });

function imageModel(change: Record<string, unknown> = {}, pattern = 'M-*'): Model {
  const { vocabSize: _, eosTokenId: __, ...base } = tinyConfig({ pattern });
  const of = { kind: 'images' as const, height: 4, width: 6, channels: 3 as const, patch: 2 };
  return hybridModel(modelConfig({ ...base, input: { ...of, classes: ['a', 'b', 'c'], ...change } }));
}

test.each([1, 2])(
  'with patches of %i a pixel changes what is said from its patch on, and nothing before',
  async (patch) => {
    const model = imageModel({ patch });
    const pixels = input('pixels', 'float32', [1, 4, 6, 3]);
    const { said } = perceive(model, new ParameterRegistry(), { pixels }, scalar(0, 'int64'));
    const executable = await device.compile(withInputs({ outputs: said, weights: tinyWeights(model) }));
    const x = uniform(1, [1, 4, 6, 3], 0, 1).data as Float32Array;
    const run = async (values: Float32Array) =>
      (await executable.run({ pixels: float32(values, [1, 4, 6, 3]) })).logits!;
    const whole = await run(x);
    const positions = 24 / patch ** 2;
    expect(whole.dims).toEqual([1, positions, 3]);
    for (const [row, column] of [
      [0, 0],
      [1, 3],
      [2, 1],
      [3, 5],
    ] as const) {
      const at = (row * 6 + column) * 3 + 1;
      const { data } = await run(x.map((value, i) => (i === at ? 1 - value : value)));
      const first = (data as Float32Array).findIndex((value, i) => value !== whole.data[i]);
      expect(Math.floor(first / 3)).toBe(Math.floor(row / patch) * (6 / patch) + Math.floor(column / patch));
    }
    await executable.dispose();
  },
);

test('the gradient is the one that difference quotients show', async () => {
  const model = imageModel();
  const registry = new ParameterRegistry();
  const pixels = input('pixels', 'float32', [2, 4, 6, 3]);
  const label = input('label', 'int64', [2]);
  const { logits } = perceive(model, registry, { pixels }, scalar(0, 'int64')).said;
  const loss = sum(crossEntropy(mean(logits!, 1), label));
  const names = ['input.weight', 'input.bias', 'input.positions', 'output.weight'];
  await checkSlopes(
    device,
    loss,
    Object.fromEntries(names.map((name) => [name, registry.tensors.get(name)!])),
    {
      ...Object.fromEntries(tinyWeights(model)),
      pixels: uniform(2, [2, 4, 6, 3], 0, 1),
      label: { dtype: 'int64' as const, dims: [2], data: BigInt64Array.of(2n, 0n) },
    },
  );
});

test.each([
  [{ patch: 4 }, /height \(4\) and width \(6\) must be multiples of patch \(4\)/],
  [{ classes: ['a', 'a'] }, /two classes have one name/],
  [{ classes: ['a'] }, /classes/],
  [{ channels: 4 }, /channels/],
  [{ kind: 'paintings' }, /kind/],
])('%j cannot be', (change, message) => {
  expect(() => imageModel(change)).toThrow(message);
});
