/** Block quantization: its error, what it represents exactly, and the layout of the codes. */
import { describe, expect, test } from 'vitest';
import { CheckpointError } from '../errors.js';
import { Random } from '../nn/index.js';
import { dequantizeBlocks, quantizeBlocks } from './quantize.js';

function normals(count: number, seed = 1): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => random.normal());
}

function relative(a: Float32Array, b: Float32Array): number {
  const square = (sum: number, x: number): number => sum + x * x;
  return Math.sqrt(a.map((x, i) => x - b[i]!).reduce(square, 0) / b.reduce(square, 0));
}

describe.each([4, 8] as const)('%i bits', (bits) => {
  test.each([32, 64, 128])('approximate normal numbers, in blocks of %i', (block) => {
    const values = normals(8 * 256);
    const back = dequantizeBlocks(quantizeBlocks(values, 256, bits, block), 256, bits, block);
    // A uniform quantizer of step s has an error of s / sqrt(12); here s is about the largest of a block over 2^(bits - 1).
    const bound = { 4: 0.13, 8: 0.009 }[bits];
    expect(relative(back, values)).toBeLessThan(bound);
    expect(relative(back, values)).toBeGreaterThan(bound / 4);
  });

  test('are exact when every number is a code', () => {
    const half = 2 ** (bits - 1);
    const values = Float32Array.from({ length: 64 }, (_, i) => 0.5 * ((i % (2 * half)) - half));
    // The lowest code must occur in each block, since it determines the scale.
    values[0] = values[32] = -0.5 * half;
    expect(dequantizeBlocks(quantizeBlocks(values, 64, bits, 32), 64, bits, 32)).toEqual(values);
  });

  test('keep zeros, and have the same error for a block and its negative', () => {
    expect(dequantizeBlocks(quantizeBlocks(new Float32Array(64), 32, bits, 32), 32, bits, 32)).toEqual(
      new Float32Array(64),
    );
    const values = normals(64);
    const negative = values.map((x) => -x);
    const of = (x: Float32Array) => dequantizeBlocks(quantizeBlocks(x, 64, bits, 32), 64, bits, 32);
    expect(of(negative)).toEqual(of(values).map((x) => -x));
  });

  test('pad a row that ends within a block', () => {
    const values = normals(3 * 40);
    const { codes, scales } = quantizeBlocks(values, 40, bits, 32);
    expect([codes.length, scales.length]).toEqual([(3 * 64 * bits) / 8, 3 * 2]);
    const back = dequantizeBlocks({ codes, scales }, 40, bits, 32);
    expect(back.length).toBe(120);
    expect(relative(back, values)).toBeLessThan({ 4: 0.13, 8: 0.009 }[bits]);
    // The padding is the code of zero.
    const zero = bits === 4 ? 0x88 : 0x80;
    const row = codes.length / 3;
    expect([...codes.subarray(row - (12 * bits) / 8, row)].every((code) => code === zero)).toBe(true);
  });
});

test.each([4, 8] as const)(
  'in %i bits a value that is no number is refused: no code stands for it',
  (bits) => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const values = normals(2 * 64);
      values[64 + 40] = value;
      const quantize = () => quantizeBlocks(values, 64, bits, 32, 'layers.0.weight');
      expect(quantize).toThrow(CheckpointError);
      expect(quantize).toThrow(`layers.0.weight has the value ${value} in row 2, column 41`);
    }
  },
);

test('of two codes the first is in the lower half of its byte', () => {
  const values = new Float32Array(32);
  values[0] = -8;
  values[1] = 7;
  const { codes, scales } = quantizeBlocks(values, 32, 4, 32);
  expect(scales[0]).toBe(1);
  expect(codes[0]).toBe(0xf0);
});
