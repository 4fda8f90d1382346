/** Separable self-attention against its definition on every device, and its gradients. */
import { describe, expect, test } from 'vitest';
import { openDevice } from '../../engine/index.js';
import { ShapeError } from '../../errors.js';
import { input, scalar, slice } from '../../graph/index.js';
import { tabulate, total } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import type { Mixer } from '../mixer.js';
import { ParameterRegistry } from '../parameters.js';
import { checkDefinition } from '../testing/definition.js';
import { checkGradients } from '../testing/gradients.js';
import { separableAttention } from './separable-attention.js';

const devices = [await openDevice('cpu', { threads: 1 }), await openDevice('wasm', { threads: 2 })];
const hiddenSize = 4;
const places = 9;
const mixer = separableAttention({ hiddenSize, expansion: 2, places, outputDeviation: 0.02 });
/** For inputs whose number of places is a symbol. */
const known: Mixer = {
  state: [],
  forward: (parameters, x, context) => mixer.forward(parameters, slice(x, 1, 0, places), context),
};
const relu6 = (x: number): number => Math.min(Math.max(x, 0), 6);

describe.each(devices)('on $name', (device) => {
  test('is what its definition says', () =>
    checkDefinition(device, known, { hiddenSize }, (weight, x) => {
      const [batch] = x.dims as [number];
      const project = (name: string, b: number, p: number, c: number): number =>
        weight(`${name}.bias`).at(c) +
        total(hiddenSize, (i) => weight(`${name}.weight`).at(c, i) * x.at(b, p, i));
      const values = tabulate(
        [batch, places, 2 * hiddenSize],
        (b, p, c) => relu6(project('q_proj', b, p, c)) * project('k_proj', b, p, c),
      );
      return tabulate(x.dims, (b, p, o) =>
        total(2 * hiddenSize, (c) => {
          const shared = total(
            places,
            (other) => weight('places.weight').at(0, other) * values.at(b, other, c),
          );
          const mixed =
            weight('shared_factor').at(0) * shared + weight('own_factor').at(0) * values.at(b, p, c);
          return weight('o_proj.weight').at(o, c) * relu6(mixed);
        }),
      );
    }));
});

test('has its gradients, where it does not bend', async () => {
  const few = (count: number, value: number): number[] =>
    Array.from({ length: count }, (_, i) => value + (i % 3) / 64);
  const gradients = await checkGradients(
    devices[0]!,
    (parameters, { x }) => mixer.forward(parameters, x!, { position: scalar(0, 'int64') }).output,
    {
      inputs: { x: uniform(3, [2, places, hiddenSize], -0.5, 0.5) },
      weights: {
        'q_proj.weight': few(8 * hiddenSize, 0.125),
        'q_proj.bias': few(8, 2),
        'k_proj.weight': few(8 * hiddenSize, 0.125),
        'k_proj.bias': few(8, 0.75),
        'places.weight': few(places, 0.0625),
        shared_factor: [1],
        own_factor: [0.75],
      },
    },
  );
  expect(gradients.size).toBe(9);
  for (const [of, gradient] of gradients) expect(Math.hypot(...gradient), of).toBeGreaterThan(0);
});

test('another number of places is refused', () => {
  const x = input('x', 'float32', ['batch', places + 1, hiddenSize]);
  const run = () => mixer.forward(new ParameterRegistry().root(), x, { position: scalar(0, 'int64') });
  expect(run).toThrow(ShapeError);
});
