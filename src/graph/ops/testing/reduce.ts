/** Cases for reductions and running sums. */
import type { HostTensor } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { elementwise, NdArray, tabulate } from '../../testing/arrays.js';
import type { CaseTable, OperatorCase } from '../../testing/operator-case.js';
import { spaced, uniform } from '../../testing/random.js';
import { sum, sumTo } from '../broadcast.js';
import { cumulativeSum, max, mean, sumOfSquares } from '../reduce.js';

/** Shapes, the axes to reduce (all if undefined), and whether they stay. */
const REDUCTIONS: readonly [readonly number[], number | number[] | undefined, boolean][] = [
  [[2, 3], undefined, false],
  [[2, 3], undefined, true],
  [[2, 3], 0, false],
  [[2, 3], -1, true],
  [[2, 3, 4], [0, 2], false],
  [[2, 3, 4], [1, -1], true],
  [[2, 3], [], false],
  [[2, 16], [], false],
  [[1, 5, 1], 1, false],
  [[1], 0, false],
  [[], undefined, false],
];

type Reduction = (x: Tensor, axes?: number | readonly number[], options?: { keepDims?: boolean }) => Tensor;

function reductions(
  build: Reduction,
  of: (values: readonly number[]) => number,
  operand: (dims: readonly number[]) => HostTensor,
): OperatorCase[] {
  return REDUCTIONS.map(([dims, axes, keepDims]) => ({
    name: `[${dims}] over ${axes === undefined ? 'all axes' : `[${axes}]`}${keepDims ? ', kept' : ''}`,
    operands: [operand(dims)],
    build: (x) => build(x!, axes, { keepDims }),
    expected(x) {
      const all = dims.map((_, axis) => axis);
      const reduced = (axes === undefined ? all : [axes].flat()).map(
        (axis) => (axis + dims.length) % dims.length,
      );
      const kept = dims.map((size, axis) => (reduced.includes(axis) ? 1 : size));
      const groups = tabulate(kept, () => 0).data.length;
      const members: number[][] = Array.from({ length: groups }, () => []);
      const places = tabulate(dims, (...index) =>
        index.reduce((place, i, axis) => place * kept[axis]! + (kept[axis] === 1 ? 0 : i), 0),
      );
      for (const [i, place] of places.data.entries()) members[place]!.push(x!.data[i]!);
      return new NdArray(
        keepDims ? kept : dims.filter((_, axis) => !reduced.includes(axis)),
        Float64Array.from(members, of),
      );
    },
  }));
}

const add = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** Cases of the operators in reduce.ts. */
export const reduceCases: CaseTable = {
  sum: [
    ...reductions(sum, add, (dims) => uniform(1, dims)),
    ...reductions(
      mean,
      (values) => add(values) / values.length,
      (dims) => uniform(2, dims),
    ).map((proof) => ({ ...proof, name: `mean of ${proof.name}` })),
    {
      name: 'sumTo, over leading and repeated axes',
      operands: [uniform(3, [2, 3, 4, 5])],
      build: (x) => sumTo(x!, [3, 1, 5]),
      expected: (x) =>
        tabulate([3, 1, 5], (i, _, k) =>
          add([0, 1].flatMap((b) => [0, 1, 2, 3].map((j) => x!.at(b, i, j, k)))),
        ),
    },
  ],
  sumOfSquares: [[2, 3], [5], [1, 1, 1], []].map((dims) => ({
    name: `[${dims}]`,
    operands: [uniform(5, dims)],
    build: (...[x]: Tensor[]) => sumOfSquares(x!),
    expected: (...[x]: NdArray[]) => tabulate([], () => x!.data.reduce((a, b) => a + b * b, 0)),
  })),
  max: reductions(
    max,
    (values) => Math.max(...values),
    (dims) => spaced(1, dims, -1),
  ),
  cumulativeSum: [
    ...[false, true].flatMap((reverse) =>
      [
        { dims: [4], axis: 0 },
        { dims: [2, 3], axis: 0 },
        { dims: [2, 3, 1], axis: -2 },
        { dims: [1, 1], axis: 1 },
      ].map(({ dims, axis }) => ({
        name: `[${dims}] along ${axis}${reverse ? ', from the end' : ''}`,
        operands: [uniform(4, dims)],
        build: (...[x]: Tensor[]) => cumulativeSum(x!, axis, { reverse }),
        expected(...[x]: NdArray[]) {
          const at = (axis + dims.length) % dims.length;
          return tabulate(dims, (...index) => {
            const range = reverse ? [index[at]!, dims[at]! - 1] : [0, index[at]!];
            let running = 0;
            for (let i = range[0]!; i <= range[1]!; i++)
              running += x!.at(...index.map((place, a) => (a === at ? i : place)));
            return running;
          });
        },
      })),
    ),
    {
      name: 'integers',
      operands: [{ dtype: 'int64', dims: [3], data: BigInt64Array.from([3n, -5n, 7n]) }],
      build: (x) => cumulativeSum(x!, 0),
      expected: (x) =>
        elementwise(
          (i) => [3, -2, 5][i!]!,
          tabulate(x!.dims, (i) => i),
        ),
    },
  ],
};
