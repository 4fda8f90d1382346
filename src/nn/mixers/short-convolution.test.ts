/** LFM2's gated convolution: its definition in float64, the law, gradients, and what it declares. */
import { expect, test } from 'vitest';
import { type NdArray, tabulate, total } from '../../graph/testing/arrays.js';
import { parametersOf } from '../testing/definition.js';
import { proveMixer } from '../testing/prove.js';
import { type ShortConvolutionConfig, shortConvolution } from './short-convolution.js';

const hiddenSize = 6;
const base: ShortConvolutionConfig = { hiddenSize, convKernel: 3, bias: false, outputDeviation: 0.02 };
const cases: [string, ShortConvolutionConfig][] = [
  ['without bias', base],
  ['with bias', { ...base, bias: true, convKernel: 4 }],
  ['over one token', { ...base, convKernel: 1 }],
];

function definition({ convKernel, bias }: ShortConvolutionConfig) {
  return (weight: (name: string) => NdArray, x: NdArray): NdArray => {
    const [batch, sequence] = x.dims as [number, number];
    const biasOf = (name: string, i: number) => (bias ? weight(`${name}.bias`).at(i) : 0);
    const projected = tabulate(
      [batch, sequence, 3 * hiddenSize],
      (b, t, i) =>
        biasOf('in_proj', i) + total(hiddenSize, (j) => weight('in_proj.weight').at(i!, j) * x.at(b!, t!, j)),
    );
    const mixed = tabulate([batch, sequence, hiddenSize], (b, t, d) => {
      const convolved = total(convKernel, (k) => {
        const from = t! - convKernel + 1 + k;
        if (from < 0) return 0;
        const gated = projected.at(b!, from, d!) * projected.at(b!, from, 2 * hiddenSize + d!);
        return weight('conv.weight').at(d!, 0, k) * gated;
      });
      return projected.at(b!, t!, hiddenSize + d!) * (convolved + biasOf('conv', d!));
    });
    return tabulate(
      [batch, sequence, hiddenSize],
      (b, t, i) =>
        biasOf('out_proj', i!) +
        total(hiddenSize, (d) => weight('out_proj.weight').at(i!, d) * mixed.at(b!, t!, d)),
    );
  };
}

for (const [name, config] of cases) {
  proveMixer(name, {
    mixer: shortConvolution(config),
    hiddenSize,
    definition: definition(config),
  });
}

test('parameters and state are those of LFM2', () => {
  const mixer = shortConvolution({ ...base, bias: true });
  const shapes = [...parametersOf(mixer, hiddenSize)].map(([name, { shape }]) => [name, shape]);
  expect(Object.fromEntries(shapes)).toEqual({
    'in_proj.weight': [18, 6],
    'in_proj.bias': [18],
    'conv.weight': [6, 1, 3],
    'conv.bias': [6],
    'out_proj.weight': [6, 6],
    'out_proj.bias': [6],
  });
  expect([...parametersOf(shortConvolution(base), hiddenSize).keys()]).toEqual([
    'in_proj.weight',
    'conv.weight',
    'out_proj.weight',
  ]);
  expect(mixer.state).toEqual([{ name: 'conv', dtype: 'float32', shape: ['batch', 2, 6], initial: 0 }]);
});
