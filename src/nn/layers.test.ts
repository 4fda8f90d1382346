/** The layers that act on each token alone: their values against their definitions, and their gradients. */

import { describe, expect, test } from 'vitest';
import { float32, type HostTensor, int64, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { input, relu2, type Tensor } from '../graph/index.js';
import { type NdArray, relativeError, tabulate, toArray, total } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import {
  embedding,
  embeddingTable,
  gatedMlp,
  LLAMA_MLP,
  linear,
  mergeHeads,
  mlp,
  norm,
  plainMlp,
  project,
  rmsNorm,
  splitHeads,
} from './layers.js';
import { ParameterRegistry, type Parameters } from './parameters.js';
import { checkGradients } from './testing/gradients.js';
import { randomWeights } from './testing/weights.js';

const device = await openDevice('cpu', { threads: 1 });

type Inputs = Readonly<Record<string, Tensor>>;

/** What `build` makes of these inputs and random weights, and what `expected` says. */
async function checkValues(
  inputs: Readonly<Record<string, HostTensor>>,
  build: (parameters: Parameters, inputs: Inputs) => Tensor,
  expected: (arrays: Readonly<Record<string, NdArray>>) => NdArray,
): Promise<void> {
  const registry = new ParameterRegistry();
  const leaves = Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, dims }]) => [name, input(name, dtype, dims)]),
  );
  const y = build(registry.root(), leaves);
  const weights = randomWeights(registry.specs.values());
  const executable = await device.compile(withInputs({ outputs: { y }, weights }));
  const actual = (await executable.run(inputs)).y!;
  const arrays = Object.entries({ ...inputs, ...Object.fromEntries(weights) });
  const reference = expected(Object.fromEntries(arrays.map(([name, value]) => [name, toArray(value)])));
  expect(actual.dims).toEqual(reference.dims);
  expect(y.shape).toEqual(reference.dims);
  expect(relativeError(actual.data as Float32Array, reference.data)).toBeLessThan(1e-5);
  await executable.dispose();
}

const x = uniform(1, [2, 3, 6]);
const ids = int64([4, 0, 1, 4, 4, 2], [2, 3]);
const silu = (v: number): number => v / (1 + Math.exp(-v));
const epsilon = 0.0625;

/** x / rms(x) * weight, each of `groups` parts by its own rms. */
function normalized(values: NdArray, weight: NdArray, groups: number): NdArray {
  const size = values.dims.at(-1)! / groups;
  return tabulate(values.dims, (b, t, i) => {
    const start = Math.floor(i! / size) * size;
    const square = total(size, (k) => values.at(b!, t!, start + k) ** 2) / size;
    return (values.at(b!, t!, i!) / Math.sqrt(square + epsilon)) * weight.at(i!);
  });
}

describe('values', () => {
  test('linear is x W^T + b', () =>
    checkValues(
      { x },
      (p, { x }) => linear(p, x!, 4, { bias: true }),
      ({ x, weight, bias }) =>
        tabulate(
          [2, 3, 4],
          (b, t, o) => bias!.at(o!) + total(6, (i) => x!.at(b!, t!, i) * weight!.at(o!, i)),
        ),
    ));

  test('embedding takes rows, and its table is the one that a tied model projects onto', () =>
    checkValues(
      { ids },
      (p, { ids }) => project(embedding(p, ids!, 5, 6), embeddingTable(p, 5, 6)),
      ({ ids, weight }) =>
        tabulate([2, 3, 5], (b, t, v) => total(6, (i) => weight!.at(ids!.at(b!, t!), i) * weight!.at(v!, i))),
    ));

  for (const groups of [1, 3]) {
    test(`rmsNorm in ${groups} group(s)`, () =>
      checkValues(
        { x },
        (p, { x }) => rmsNorm(p, x!, { epsilon, groups }),
        ({ x, weight }) => normalized(x!, weight!, groups),
      ));

    test(`rmsNorm in ${groups} group(s), by 1 + weight`, () =>
      checkValues(
        { x },
        (p, { x }) => rmsNorm(p, x!, { epsilon, groups, zeroCentered: true }),
        ({ x, weight }) =>
          normalized(
            x!,
            tabulate(weight!.dims, (i) => 1 + weight!.at(i!)),
            groups,
          ),
      ));
  }

  test('mlp is W_o (silu(gate) * value), the gate first in the projection', () =>
    checkValues(
      { x },
      (p, { x }) =>
        mlp({ hiddenSize: 6, intermediateSize: 4, outputDeviation: 0.02 }).forward(p, x!, {
          position: input('position', 'int64', []),
        }).output,
      ({ x, 'input_linear.weight': both, 'output_linear.weight': out }) =>
        tabulate([2, 3, 6], (b, t, o) => {
          const projected = (row: number): number => total(6, (i) => x!.at(b!, t!, i) * both!.at(row, i));
          return total(4, (k) => out!.at(o!, k) * silu(projected(k)) * projected(k + 4));
        }),
    ));

  const context = { position: input('position', 'int64', []) };
  const sizes = { hiddenSize: 6, intermediateSize: 4, outputDeviation: 0.02 };
  /** row . x[b, t] + bias[row] */
  const affine =
    (x: NdArray, weight: NdArray, bias?: NdArray) =>
    (b: number, t: number, row: number): number =>
      total(6, (i) => x.at(b, t, i) * weight.at(row, i)) + (bias?.at(row) ?? 0);

  test('a gated MLP may have gate and value apart, biases, another activation, and a factor on its gate', () =>
    checkValues(
      { x },
      (p, { x }) =>
        gatedMlp({ ...sizes, names: LLAMA_MLP, activation: relu2, bias: true, gateFactor: 0.5 }).forward(
          p,
          x!,
          context,
        ).output,
      (arrays) => {
        const of = (name: string): NdArray => arrays[name]!;
        const gate = affine(of('x'), of('gate_proj.weight'), of('gate_proj.bias'));
        const value = affine(of('x'), of('up_proj.weight'), of('up_proj.bias'));
        const inner = (b: number, t: number, k: number): number =>
          Math.max(0.5 * gate(b, t, k), 0) ** 2 * value(b, t, k);
        return tabulate(
          [2, 3, 6],
          (b, t, o) =>
            of('down_proj.bias').at(o!) +
            total(4, (k) => of('down_proj.weight').at(o!, k) * inner(b!, t!, k)),
        );
      },
    ));

  for (const bias of [false, true]) {
    test(`a plain MLP is W_d activation(W_u x)${bias ? ', with biases' : ''}`, () =>
      checkValues(
        { x },
        (p, { x }) => plainMlp({ ...sizes, activation: relu2, bias }).forward(p, x!, context).output,
        (arrays) => {
          const up = affine(arrays.x!, arrays['up_proj.weight']!, arrays['up_proj.bias']);
          return tabulate([2, 3, 6], (b, t, o) => {
            const down = arrays['down_proj.bias']?.at(o!) ?? 0;
            return (
              down + total(4, (k) => arrays['down_proj.weight']!.at(o!, k) * Math.max(up(b!, t!, k), 0) ** 2)
            );
          });
        },
      ));
  }

  test('a norm is a layer of its own, under its name', () =>
    checkValues(
      { x },
      (p, { x }) => norm('before', { epsilon }).forward(p, x!, context).output,
      ({ x, 'before.weight': weight }) => normalized(x!, weight!, 1),
    ));

  test('splitHeads puts each head in its own rows, and mergeHeads takes them back', async () => {
    await checkValues(
      { x },
      (_, { x }) => splitHeads(x!, 3),
      ({ x }) => tabulate([2, 3, 3, 2], (b, h, t, i) => x!.at(b!, t!, 2 * h! + i!)),
    );
    await checkValues(
      { x },
      (_, { x }) => mergeHeads(splitHeads(x!, 3)),
      ({ x }) => x!,
    );
  });
});

describe('gradients', () => {
  const cases: Record<
    string,
    [Record<string, HostTensor>, (parameters: Parameters, inputs: Inputs) => Tensor]
  > = {
    linear: [{ x }, (p, { x }) => linear(p, x!, 4)],
    'linear with bias': [{ x }, (p, { x }) => linear(p, x!, 4, { bias: true })],
    'embedding, of an id that occurs thrice': [{ ids }, (p, { ids }) => embedding(p, ids!, 5, 6)],
    'tied embedding': [{ ids }, (p, { ids }) => project(embedding(p, ids!, 5, 6), embeddingTable(p, 5, 6))],
    rmsNorm: [{ x }, (p, { x }) => rmsNorm(p, x!, { epsilon })],
    'rmsNorm in groups': [{ x }, (p, { x }) => rmsNorm(p, x!, { epsilon, groups: 3 })],
    'rmsNorm by 1 + weight': [{ x }, (p, { x }) => rmsNorm(p, x!, { epsilon, zeroCentered: true })],
  };
  for (const [name, [inputs, build]] of Object.entries(cases)) {
    test(name, async () => {
      const gradients = await checkGradients(device, build, { inputs });
      for (const gradient of gradients.values()) expect(Math.hypot(...gradient)).toBeGreaterThan(0);
    });
  }

  test('an id that does not occur takes none', async () => {
    const gradients = await checkGradients(device, (p, { ids }) => embedding(p, ids!, 5, 6), {
      inputs: { ids },
    });
    const weight = gradients.get('weight')!;
    expect(weight.subarray(3 * 6, 4 * 6)).toEqual(new Float32Array(6));
  });
});

test('a new norm passes on a vector whose root mean square is 1', async () => {
  const registry = new ParameterRegistry();
  const y = rmsNorm(registry.root(), input('x', 'float32', [1, 4]), { epsilon: 1e-6 });
  const weights = new Map([['weight', float32([1, 1, 1, 1], [4])]]);
  expect(registry.specs.get('weight')!.decay).toBe(false);
  const executable = await device.compile(withInputs({ outputs: { y }, weights }));
  const { data } = (await executable.run({ x: float32([1, -1, 1, -1], [1, 4]) })).y!;
  for (const [i, value] of [1, -1, 1, -1].entries()) expect(data[i]).toBeCloseTo(value, 5);
});
