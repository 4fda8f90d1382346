/** Attention by cuDNN's calls is attention, forward and backward: as their definition evaluates them. */
import { expect, test } from 'vitest';
import type { HostTensor } from '../../../engine/index.js';
import { attention, gradient, input, lowerToStableHlo, multiply, sum, type Tensor } from '../../index.js';
import { relativeError, toArray } from '../../testing/arrays.js';
import { uniform } from '../../testing/random.js';
import { compileText } from '../../testing/stablehlo/evaluate.js';

const [BATCH, HEADS, SHARED, TOKENS, SIZE] = [2, 4, 2, 64, 8];
const options = { scale: 0.3, causal: true };

function results(
  outputs: Record<string, Tensor>,
  operands: Record<string, HostTensor>,
  fusesAttention: boolean,
  devices = 1,
): { text: string; values: Float64Array[] } {
  const inputs = Object.entries(operands).map(([name]) => leaves[name]!);
  const lowered = lowerToStableHlo({
    outputs,
    inputs,
    states: [],
    lengths: undefined,
    weights: new Map(),
    sizes: () => 0,
    precision: fusesAttention ? 'bfloat16' : 'float32',
    calls: new Set(fusesAttention ? (['cudnn'] as const) : []),
    ...(devices > 1 && { mesh: { devices, axisOf: () => undefined } }),
  });
  const given = lowered.arguments.map(({ name, element, dims }) => ({
    type: { element, dims },
    data: toArray(operands[name]!).data,
  }));
  const values = compileText(lowered.text)
    .run(given)
    .map(({ data }) => data);
  return { text: lowered.text, values };
}

const shapes = {
  query: [BATCH, HEADS, TOKENS, SIZE],
  key: [BATCH, SHARED, TOKENS, SIZE],
  value: [BATCH, SHARED, TOKENS, SIZE],
  weight: [BATCH, HEADS, TOKENS, SIZE],
  pastKey: [BATCH, SHARED, 2 * TOKENS, SIZE],
  pastValue: [BATCH, SHARED, 2 * TOKENS, SIZE],
};
const leaves: Record<string, Tensor> = Object.fromEntries(
  Object.entries(shapes).map(([name, dims]) => [name, input(name, 'float32', dims)]),
);
leaves.lengths = input('lengths', 'int64', [BATCH]);
const values = Object.fromEntries(
  Object.entries(shapes).map(([name, dims], i) => [name, uniform(i + 1, dims)]),
);
const { query, key, value, weight, pastKey, pastValue, lengths } = leaves as Record<string, Tensor>;

function expectSame(
  outputs: Record<string, Tensor>,
  operands: Record<string, HostTensor>,
  calls: number,
): void {
  const fused = results(outputs, operands, true);
  expect(fused.text.match(/custom_call/g)).toHaveLength(calls);
  const plain = results(outputs, operands, false);
  expect(plain.text).not.toContain('custom_call');
  for (const [i, expected] of plain.values.entries())
    expect(relativeError(fused.values[i]!, expected)).toBeLessThan(1e-2);
  // Two devices compute the same numbers of a sequence each.
  const byTwo = results(outputs, operands, true, BATCH);
  expect(byTwo.text.match(/manual_computation/g)).toHaveLength(calls);
  expect(byTwo.values).toEqual(fused.values);
}

test('forward and backward: one call each, and no weights', () => {
  const { output } = attention({ query: query!, key: key!, value: value! }, options);
  const [dq, dk, dv] = gradient(sum(multiply(output, weight!)), [query!, key!, value!]);
  const { query: q, key: k, value: v, weight: w } = values;
  expectSame({ output, dq: dq!, dk: dk!, dv: dv! }, { query: q!, key: k!, value: v!, weight: w! }, 2);
});

test('behind what is past, of which one row holds nothing and one a part', () => {
  const past = { key: pastKey!, value: pastValue!, lengths: lengths! };
  const { output } = attention({ query: query!, key: key!, value: value!, past }, options);
  const held: HostTensor = { dtype: 'int64', dims: [BATCH], data: BigInt64Array.of(0n, 70n) };
  const { weight: _, ...operands } = values;
  expectSame({ output }, { ...(operands as Record<string, HostTensor>), lengths: held }, 2);
});
