/** Cases for constants. They have no operands, so they have no gradient. */
import { NdArray, tabulate } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { constant, dimension, fill, iota, scalar, zeros } from '../constant.js';

const array = (dims: readonly number[], values: readonly number[]) =>
  new NdArray(dims, Float64Array.from(values));

/** Cases of constants, of every dtype. */
export const constantCases: CaseTable = {
  constant: [
    {
      name: 'float32, int32 and int64 literals',
      operands: [],
      build: () => [
        constant(new Float32Array([0.5, -2]), [2]),
        constant(new Int32Array([3, -(2 ** 31)]), [1, 2]),
        constant(new BigInt64Array([2n ** 40n]), []),
      ],
      expected: () => [array([2], [0.5, -2]), array([1, 2], [3, -(2 ** 31)]), array([], [2 ** 40])],
    },
    {
      name: 'a literal of more bytes than are hashed',
      operands: [],
      build: () => [
        constant(
          Float32Array.from({ length: 90 }, (_, i) => i / 2),
          [9, 10],
        ),
      ],
      expected: () => tabulate([9, 10], (i, j) => (10 * i + j) / 2),
    },
    {
      name: 'scalars of every dtype',
      operands: [],
      build: () => [scalar(0.25), scalar(-7, 'int64'), scalar(-7, 'int32'), scalar(1, 'bool')],
      expected: () => [array([], [0.25]), array([], [-7]), array([], [-7]), array([], [1])],
    },
    {
      name: 'fills of every dtype, and a shape without elements',
      operands: [],
      build: () => [
        fill([2, 3], 1.5),
        fill([], -1),
        fill([1], 4, 'int64'),
        fill([2], 4, 'int32'),
        fill([3, 1], 1, 'bool'),
        zeros([2, 0, 3]),
      ],
      expected: () => [
        tabulate([2, 3], () => 1.5),
        array([], [-1]),
        array([1], [4]),
        array([2], [4, 4]),
        tabulate([3, 1], () => 1),
        array([2, 0, 3], []),
      ],
    },
  ],
  iota: [
    {
      name: 'int64 and int32',
      operands: [],
      build: () => [iota(4), iota(1), iota(3, 'int32')],
      expected: () => [array([4], [0, 1, 2, 3]), array([1], [0]), array([3], [0, 1, 2])],
    },
  ],
  dimension: [
    {
      name: 'a dimension that is a number',
      operands: [],
      build: () => dimension(12),
      expected: () => array([], [12]),
    },
  ],
};
