/** Griffin's recurrent block: its definition in float64, the law, gradients, and where its root would break. */

import { beforeAll, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { ConfigError } from '../../errors.js';
import { constant, gradient, input, scalar } from '../../graph/index.js';
import { type NdArray, tabulate, total } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry } from '../parameters.js';
import { Random } from '../random.js';
import { parametersOf, sigmoid, softplus } from '../testing/definition.js';
import { proveMixer } from '../testing/prove.js';
import { randomWeights } from '../testing/weights.js';
import { type RecurrentBlockConfig, recurrentBlock } from './rg-lru.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice('cpu', { threads: 1 });
});

const hiddenSize = 4;
const base: RecurrentBlockConfig = {
  hiddenSize,
  lruWidth: 6,
  numBlocks: 2,
  convKernel: 4,
  outputDeviation: 0.02,
};
const cases: [string, RecurrentBlockConfig][] = [
  ['two blocks', base],
  ['one block', { ...base, numBlocks: 1 }],
  ['a block for each channel, a convolution over one token', { ...base, numBlocks: 6, convKernel: 1 }],
];
// New models remember nearly all: here the decays differ.
const weights = { 'rg_lru.recurrent_param': [-2, -1, -3, -0.5, -4, -1.5] };

const gelu = (x: number) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

function definition({ lruWidth, numBlocks, convKernel }: RecurrentBlockConfig) {
  const size = lruWidth / numBlocks;
  return (weight: (name: string) => NdArray, u: NdArray): NdArray => {
    const [batch, sequence] = u.dims as [number, number];
    const linear = (name: string, i: number, inputs: number, row: (j: number) => number) =>
      weight(`${name}.bias`).at(i) + total(inputs, (j) => weight(`${name}.weight`).at(i, j) * row(j));
    const branch = tabulate([batch, sequence, lruWidth], (b, t, d) =>
      linear('linear_x', d!, hiddenSize, (j) => u.at(b!, t!, j)),
    );
    const x = tabulate(
      [batch, sequence, lruWidth],
      (b, t, d) =>
        weight('conv_1d.bias').at(d!) +
        total(convKernel, (k) => {
          const from = t! - convKernel + 1 + k;
          return from < 0 ? 0 : weight('conv_1d.weight').at(d!, 0, k) * branch.at(b!, from, d!);
        }),
    );
    const gate = (name: string, b: number, t: number, d: number) => {
      const block = Math.floor(d / size);
      const within = d % size;
      return sigmoid(
        weight(`rg_lru.${name}_bias`).at(block, within) +
          total(
            size,
            (j) => x.at(b, t, block * size + j) * weight(`rg_lru.${name}_weight`).at(block, j, within),
          ),
      );
    };
    const mixed = tabulate([batch, sequence, lruWidth], () => 0);
    for (let b = 0; b < batch; b++) {
      for (let d = 0; d < lruWidth; d++) {
        let h = 0;
        for (let t = 0; t < sequence; t++) {
          const rate = softplus(weight('rg_lru.recurrent_param').at(d));
          const a = Math.exp(-8 * gate('recurrent_gate', b, t, d) * rate);
          const root = t === 0 ? 1 : Math.sqrt(1 - a * a);
          h = a * h + root * gate('input_gate', b, t, d) * x.at(b, t, d);
          const opened = gelu(linear('linear_y', d, hiddenSize, (j) => u.at(b, t, j)));
          mixed.data[(b * sequence + t) * lruWidth + d] = h * opened;
        }
      }
    }
    return tabulate([batch, sequence, hiddenSize], (b, t, i) =>
      linear('linear_out', i!, lruWidth, (d) => mixed.at(b!, t!, d)),
    );
  };
}

for (const [name, config] of cases) {
  proveMixer(name, {
    mixer: recurrentBlock(config),
    hiddenSize,
    weights,
    definition: definition(config),
  });
}

test('the first position has no root, wherever a sequence goes on the others have one', async () => {
  const mixer = recurrentBlock(base);
  const registry = new ParameterRegistry();
  const x = input('x', 'float32', ['batch', 'sequence', hiddenSize]);
  const position = input('position', 'int64', []);
  const { output } = mixer.forward(registry.root(), x, { position });
  const executable = await device.compile(
    withInputs({
      outputs: { output },
      weights: randomWeights(registry.specs.values()),
    }),
  );
  const run = async (from: bigint) => {
    const fed = { dtype: 'int64' as const, dims: [], data: BigInt64Array.of(from) };
    const results = await executable.run({ x: uniform(4, [1, 3, hiddenSize]), position: fed });
    return results.output!.data as Float32Array;
  };
  const [first, second, third] = [await run(0n), await run(1n), await run(7n)];
  expect(second).toEqual(third);
  expect(first).not.toEqual(second);
  await executable.dispose();
});

test('where all is remembered, values and gradients are finite', async () => {
  const registry = new ParameterRegistry();
  const x = uniform(4, [1, 5, hiddenSize]);
  const leaf = constant(x.data as Float32Array, x.dims);
  const { output } = recurrentBlock(base).forward(registry.root(), leaf, { position: scalar(0, 'int64') });
  // The recurrent gate is closed but for rounding: 1 - a^2 is 0.
  const given = { 'rg_lru.recurrent_gate_bias': Array<number>(6).fill(-40) };
  const names = [...registry.tensors.keys()];
  const parts = gradient([output], [...registry.tensors.values()], [output]);
  const executable = await device.compile(
    withInputs({
      outputs: { output, ...Object.fromEntries(names.map((name, i) => [`d ${name}`, parts[i]!])) },
      weights: randomWeights(registry.specs.values(), { given }),
    }),
  );
  for (const [name, { data }] of Object.entries(await executable.run({}))) {
    expect((data as Float32Array).every(Number.isFinite), name).toBe(true);
  }
  await executable.dispose();
});

test('parameters and state are those of RecurrentGemma', () => {
  const shapes = [...parametersOf(recurrentBlock(base), hiddenSize)].map(([name, { shape }]) => [
    name,
    shape,
  ]);
  expect(Object.fromEntries(shapes)).toEqual({
    'linear_y.weight': [6, 4],
    'linear_y.bias': [6],
    'linear_x.weight': [6, 4],
    'linear_x.bias': [6],
    'conv_1d.weight': [6, 1, 4],
    'conv_1d.bias': [6],
    'rg_lru.input_gate_weight': [2, 3, 3],
    'rg_lru.input_gate_bias': [2, 3],
    'rg_lru.recurrent_gate_weight': [2, 3, 3],
    'rg_lru.recurrent_gate_bias': [2, 3],
    'rg_lru.recurrent_param': [6],
    'linear_out.weight': [4, 6],
    'linear_out.bias': [4],
  });
  expect(recurrentBlock(base).state.map(({ name, shape }) => [name, shape])).toEqual([
    ['conv', ['batch', 3, 6]],
    ['recurrent', ['batch', 1, 6]],
  ]);
});

test('starts with exp(-softplus(recurrent_param)) between 0.9 and 0.999', () => {
  const { initialize } = parametersOf(recurrentBlock(base), hiddenSize).get('rg_lru.recurrent_param')!;
  for (const param of initialize(new Random(1), [200])) {
    const radius = Math.exp(-softplus(param));
    expect(radius).toBeGreaterThan(0.8999);
    expect(radius).toBeLessThan(0.9991);
  }
});

test('blocks that do not divide the width are refused', () => {
  expect(() => recurrentBlock({ ...base, numBlocks: 4 })).toThrow(ConfigError);
  expect(() => recurrentBlock({ ...base, numBlocks: 4 })).toThrow(
    '4 blocks cannot share 6 channels evenly: lruWidth must be a multiple of numBlocks',
  );
});
