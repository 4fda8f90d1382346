/** Cases for products of rows that decay over the steps between them. */
import type { HostTensor } from '../../../engine/index.js';
import { NdArray } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { decayedProducts } from '../decayed-products.js';

/** Sums of log decays [rows, members, steps, size], each of a step between -`rate` and 0. */
function sumsOf(dims: readonly number[], rate: number): HostTensor {
  const [, , steps, size] = dims as [number, number, number, number];
  const sums = uniform(9, dims, -rate, 0);
  const data = sums.data as Float32Array;
  for (let i = 0; i < data.length; i++) {
    if (Math.floor(i / size) % steps > 0) data[i]! += data[i - size]!;
  }
  return sums;
}

/** By the definition, in float64. */
function expected(x: NdArray, y: NdArray, sums: NdArray): NdArray {
  const [rows, members, steps, size] = x.dims as [number, number, number, number];
  const product = new Float64Array(rows * members * steps * steps);
  for (let n = 0; n < rows * members; n++) {
    for (let i = 0; i < steps; i++) {
      for (let j = 0; j <= i; j++) {
        const [a, b] = [(n * steps + i) * size, (n * steps + j) * size];
        for (let d = 0; d < size; d++) {
          const decay = Math.exp(sums.data[a + d]! - sums.data[b + d]!);
          product[(n * steps + i) * steps + j]! += x.data[a + d]! * y.data[b + d]! * decay;
        }
      }
    }
  }
  return new NdArray([rows, members, steps, steps], product);
}

const SHAPES: readonly (readonly [
  name: string,
  xs: number,
  ys: number,
  dims: readonly number[],
  rate: number,
])[] = [
  ['a step', 1, 1, [1, 1, 1, 2], 1],
  ['2 steps', 2, 1, [2, 1, 2, 2], 1],
  ['4 steps of 2 members', 1, 2, [1, 2, 4, 1], 0.5],
  ['blocks of blocks', 1, 1, [1, 1, 32, 1], 0.2],
  ['decays that underflow', 1, 1, [1, 1, 4, 2], 90],
];

/** Cases of the operator in decayed-products.ts. */
export const decayedProductsCases: CaseTable = {
  decayedProducts: SHAPES.map(([name, xs, ys, dims, rate]) => ({
    name,
    operands: [...Array.from({ length: xs + ys }, (_, i) => uniform(i + 1, dims, -1, 1)), sumsOf(dims, rate)],
    build: (...operands) =>
      decayedProducts(operands.slice(0, xs), operands.slice(xs, -1), operands.at(-1)!).flat(),
    expected: (...operands) =>
      operands
        .slice(0, xs)
        .flatMap((x) => operands.slice(xs, -1).map((y) => expected(x, y, operands.at(-1)!))),
  })),
};
