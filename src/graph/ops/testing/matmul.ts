/** Cases for the matrix product: each pair of shapes with either operand transposed or not. */
import type { Tensor } from '../../tensor.js';
import { type NdArray, tabulate, total } from '../../testing/arrays.js';
import type { CaseTable, OperatorCase } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { matmul } from '../matmul.js';

/** Leading axes of either operand, and of the result. */
const BATCHES: readonly [readonly number[], readonly number[], readonly number[]][] = [
  [[], [], []],
  [[3], [], [3]],
  [[], [3], [3]],
  [[2], [2], [2]],
  [[2, 1], [3], [2, 3]],
  [[1], [2, 1], [2, 1]],
];

const SIZES: readonly [number, number, number][] = [
  [2, 3, 4],
  [1, 5, 1],
  [3, 1, 2],
];

/** The element of a batch that broadcasts to `index`. */
function pick(x: NdArray, index: readonly number[], row: number, column: number): number {
  return x.at(...index.slice(index.length - (x.dims.length - 2)), row, column);
}

function product(
  [a, b, batch]: (typeof BATCHES)[number],
  [m, k, n]: (typeof SIZES)[number],
  transposeA: boolean,
  transposeB: boolean,
): OperatorCase {
  const left = [...a, ...(transposeA ? [k, m] : [m, k])];
  const right = [...b, ...(transposeB ? [n, k] : [k, n])];
  return {
    name: `[${left}]${transposeA ? ' transposed' : ''} by [${right}]${transposeB ? ' transposed' : ''}`,
    operands: [uniform(1, left), uniform(2, right)],
    build: (x, y) => matmul(x!, y!, { transposeA, transposeB }),
    expected: (x, y) =>
      tabulate([...batch, m, n], (...index) => {
        const [row, column] = index.splice(-2) as [number, number];
        return total(k, (i) => {
          const left = transposeA ? pick(x!, index, i, row) : pick(x!, index, row, i);
          return left * (transposeB ? pick(y!, index, column, i) : pick(y!, index, i, column));
        });
      }),
  };
}

const FLAGS = [false, true];

/** Cases of the operator in matmul.ts. */
export const matmulCases: CaseTable = {
  matmul: [
    ...BATCHES.flatMap((batch) => FLAGS.flatMap((a) => FLAGS.map((b) => product(batch, SIZES[0]!, a, b)))),
    ...SIZES.slice(1).flatMap((size) => FLAGS.map((a) => product(BATCHES[1]!, size, a, !a))),
    {
      name: 'a matrix by itself transposed',
      operands: [uniform(3, [3, 2])],
      build: (...[x]: Tensor[]) => matmul(x!, x!, { transposeB: true }),
      expected: (...[x]: NdArray[]) => tabulate([3, 3], (i, j) => total(2, (k) => x!.at(i, k) * x!.at(j, k))),
    },
  ],
};
