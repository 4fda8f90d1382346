/** Neighbours that become one node compute the same, and those that others need stay apart. */
import { describe, expect, test } from 'vitest';
import {
  add,
  causalConvolution,
  type Dim,
  input,
  loop,
  matmul,
  multiply,
  rmsNorm,
  silu,
  type Tensor,
  toOnnx,
  type WeightSource,
} from '../../index.js';
import { relativeError } from '../../testing/arrays.js';
import { uniform } from '../../testing/random.js';
import { contains, runOnnx } from '../../testing/run-onnx.js';

const FUSED = new Set([
  'QuickGelu',
  'CausalConvWithState',
  'CausalConvWithState+silu',
  'SimplifiedLayerNormalization',
  'SkipSimplifiedLayerNormalization',
]);
const shape: Dim[] = ['batch', 'sequence', 8];
const x = input('x', 'float32', shape);
const y = input('y', 'float32', shape);
const feeds = { x: uniform(1, [2, 5, 8]), y: uniform(2, [2, 5, 8]) };
const weights = {
  convolution: uniform(3, [8, 1, 3]),
  norm: uniform(4, [8], 0.5, 1.5),
};
const convolution = input('convolution', 'float32', [8, 1, 3]);
const norm = input('norm', 'float32', [8]);

async function expectEqual(outputs: Record<string, Tensor>, given: Record<string, unknown>): Promise<void> {
  const all = { ...feeds, ...weights };
  const used = Object.fromEntries(Object.entries(all).filter(([name]) => name in given));
  const actual = await runOnnx(toOnnx(outputs, { fused: FUSED }), used);
  const expected = await runOnnx(toOnnx(outputs), used);
  for (const [name, { data }] of Object.entries(expected)) {
    expect(relativeError(actual[name]!.data, data), name).toBeLessThan(1e-6);
  }
}

describe('a convolution and its silu', () => {
  test('are one', async () => {
    const { output, state } = causalConvolution(x, convolution);
    const outputs = { activated: silu(output), state };
    const model = toOnnx(outputs, { fused: FUSED });
    expect([contains(model, 'activation'), contains(model, 'QuickGelu')]).toEqual([true, false]);
    await expectEqual(outputs, { x, convolution });
  });

  test('are two where the convolution itself is wanted', async () => {
    const { output } = causalConvolution(x, convolution);
    const outputs = { activated: silu(output), plain: multiply(output, 2) };
    expect(contains(toOnnx(outputs, { fused: FUSED }), 'QuickGelu')).toBe(true);
    await expectEqual(outputs, { x, convolution });
    const named = { activated: silu(output), output };
    expect(contains(toOnnx(named, { fused: FUSED }), 'QuickGelu')).toBe(true);
    await expectEqual(named, { x, convolution });
  });
});

describe('a sum and its norm', () => {
  test('are one, from which the sum goes on', async () => {
    const sum = add(x, y);
    const outputs = { normed: rmsNorm(sum, norm, 1e-5), next: add(sum, x), sum };
    expect(contains(toOnnx(outputs, { fused: FUSED }), 'SkipSimplified')).toBe(true);
    await expectEqual(outputs, { x, y, norm });
  });

  test('are two where the sum repeats an operand', async () => {
    const outputs = { normed: rmsNorm(add(x, norm), norm, 1e-5) };
    expect(contains(toOnnx(outputs, { fused: FUSED }), 'SkipSimplified')).toBe(false);
    await expectEqual(outputs, { x, norm });
  });

  test('inside a loop', async () => {
    const outputs = {
      last: loop(3, [x], (_, [h]) => ({
        carried: [add(rmsNorm(add(h!, y), norm, 1e-5), h!)],
        stacked: [],
      })).carried[0]!,
    };
    expect(contains(toOnnx(outputs, { fused: FUSED }), 'SkipSimplified')).toBe(true);
    await expectEqual(outputs, { x, y, norm });
  });
});

test('a factor goes into the scales of a quantized matrix', async () => {
  const w = input('w', 'float32', [4, 32]);
  const wide = input('wide', 'float32', ['batch', 32]);
  const source: WeightSource = {
    bits: 8,
    block: 32,
    codes: { type: 'uint8', bytes: Uint8Array.from({ length: 128 }, (_, i) => (i * 89) & 255) },
    scales: { type: 'float32', bytes: new Uint8Array(Float32Array.from([0.1, 0.2, 0.3, 0.4]).buffer) },
  };
  const options = { fused: FUSED, weights: new Map([['w', source]]) };
  const product = matmul(wide, w, { transposeB: true });
  const given = { wide: uniform(5, [3, 32]) };
  const { scaled } = await runOnnx(toOnnx({ scaled: multiply(product, 0.25) }, options), given);
  // Where the product itself is wanted too, the factor stays outside.
  const both = await runOnnx(toOnnx({ scaled: multiply(product, 0.25), product }, options), given);
  expect(relativeError(scaled!.data, both.scaled!.data)).toBeLessThan(1e-6);
  expect(
    relativeError(
      both.product!.data,
      both.scaled!.data.map((value) => 4 * value),
    ),
  ).toBeLessThan(1e-6);
});
