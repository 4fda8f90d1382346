/** Attention for selected queries against its definition, with gradients that pass through the choice, and the capacity in training. */
import { describe, expect, test } from 'vitest';
import { openDevice } from '../../engine/index.js';
import { only, withInputs } from '../../engine/testing/with-inputs.js';
import { constant, gradient, input, scalar } from '../../graph/index.js';
import { relativeError, tabulate, total } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry } from '../parameters.js';
import { checkDefinition, sigmoid } from '../testing/definition.js';
import { checkLaw } from '../testing/law.js';
import { randomWeights } from '../testing/weights.js';
import { querySelection } from './query-selection.js';
import { slidingWindowAttention } from './selective.js';

const device = await openDevice('cpu', { threads: 1 });
const wasm = await openDevice('wasm', { threads: 2 });
const hiddenSize = 8;
const config = {
  hiddenSize,
  numHeads: 2,
  numKeyValueHeads: 1,
  headDim: 4,
  window: 3,
  capacity: 0.25,
  capacityWeight: 2,
  outputDeviation: 0.02,
};
const mixer = querySelection(config);

test('is what its definition says', () =>
  checkDefinition(device, mixer, { hiddenSize }, (weight, x) => {
    const [batch, tokens] = x.dims as [number, number];
    const linear = (name: string, h: readonly number[], row: number): number =>
      total(h.length, (i) => weight(name).at(row, i) * h[i]!);
    const at = (b: number, t: number): number[] =>
      Array.from({ length: hiddenSize }, (_, i) => x.at(b, t, i));
    let selected = 0;
    const rows = Array.from({ length: batch }, (_, b) =>
      Array.from({ length: tokens }, (_, t) => {
        const h = at(b, t);
        const [stay, attend] = [0, 1].map(
          (row) => linear('router.weight', h, row) + weight('router.bias').at(row),
        );
        const a = sigmoid(attend! - stay!);
        if (a <= 0.5) return h.map(() => 0);
        selected++;
        const seen = Array.from({ length: Math.min(t + 1, 3) }, (_, i) => at(b, t - i));
        const heads = [0, 1].flatMap((head) => {
          const of = (name: string, from: number[], shared = head) =>
            Array.from({ length: 4 }, (_, d) => linear(`${name}.weight`, from, shared * 4 + d));
          const query = of('q_proj', h);
          const shares = seen.map((token) => {
            const key = of('k_proj', token, 0);
            return Math.exp(total(4, (d) => query[d]! * key[d]!) / 2);
          });
          const sum = shares.reduce((x, y) => x + y, 0);
          return Array.from({ length: 4 }, (_, d) =>
            total(seen.length, (j) => (shares[j]! / sum) * of('v_proj', seen[j]!, 0)[d]!),
          );
        });
        return h.map((value, i) => a * (linear('o_proj.weight', heads, i) - value));
      }),
    );
    // The case is about a choice.
    expect(selected).toBeGreaterThan(2);
    expect(selected).toBeLessThan(batch * tokens - 2);
    return tabulate(x.dims, (b, t, i) => rows[b]![t]![i]!);
  }));

describe('whole = in chunks = token by token = restored', () => {
  test.each([device, wasm])('on $name', (on) => checkLaw(on, mixer, { hiddenSize, batch: 2, sequence: 43 }));
});

test('gradients pass through the choice as if it were the share, and a capacity that is missed is in the loss', async () => {
  const registry = new ParameterRegistry();
  const x = input('x', 'float32', [2, 9, hiddenSize]);
  const { output } = mixer.forward(registry.root(), x, { position: scalar(0, 'int64') });
  expect(registry.penalties).toHaveLength(1);
  const bias = registry.tensors.get('router.bias')!;
  const seed = uniform(7, [2, 9, hiddenSize]).data as Float32Array;
  const [router] = gradient([output], [bias], [constant(seed, [2, 9, hiddenSize])]);
  const [towards] = gradient(registry.penalties[0]!, [bias]);
  // The same from the parts: attention's output and the router's logits.
  const windowed = slidingWindowAttention(config).forward(registry.root(), x, {
    position: scalar(0, 'int64'),
  });
  const program = withInputs({
    outputs: {
      output,
      o: windowed.output,
      router: router!,
      towards: towards!,
      penalty: registry.penalties[0]!,
    },
  });
  const weights = randomWeights(registry.specs.values(), { deviation: 0.5 });
  const feeds = { x: uniform(5, [2, 9, hiddenSize], -2, 2), ...Object.fromEntries(weights) };
  const results = await (await device.compile(program)).run(only(program, feeds));
  const value = (name: string) => results[name]!.data as Float32Array;
  const [rows, W, b] = [feeds.x, weights.get('router.weight')!, weights.get('router.bias')!].map(
    ({ data }) => data as Float32Array,
  ) as [Float32Array, Float32Array, Float32Array];
  let [expected, sum, rise] = [0, 0, 0];
  for (let token = 0; token < 18; token++) {
    const logit = (row: number): number =>
      total(hiddenSize, (i) => W[row * hiddenSize + i]! * rows[token * hiddenSize + i]!) + b[row]!;
    const a = sigmoid(logit(1) - logit(0));
    const m = Number(a > 0.5);
    const moved = total(hiddenSize, (i) => {
      const at = token * hiddenSize + i;
      return seed[at]! * (value('o')[at]! - rows[at]!);
    });
    // d(m a) with dm = da.
    expected += moved * (a + m) * a * (1 - a);
    sum += m;
    rise += (a * (1 - a)) / 18;
  }
  const missed = sum / 18 - config.capacity;
  expect(relativeError(value('router'), [-expected, expected])).toBeLessThan(1e-5);
  expect(value('penalty')[0]).toBeCloseTo(2 * missed ** 2, 5);
  expect(relativeError(value('towards'), [-4 * missed * rise, 4 * missed * rise])).toBeLessThan(1e-4);
});
