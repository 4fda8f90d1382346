/** Cases for gather, scatter and top-k. */
import type { HostTensor } from '../../../engine/index.js';
import { int64 } from '../../../engine/index.js';
import { tabulate } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { spaced, uniform } from '../../testing/random.js';
import { constant } from '../constant.js';
import { add, multiply } from '../elementwise.js';
import { gather, gatherElements, scatterElements, scatterRows, topK } from '../indexing.js';

const int32 = (values: readonly number[], dims: readonly number[]): HostTensor => ({
  dtype: 'int32',
  dims,
  data: Int32Array.from(values),
});

/** Cases of the operators in indexing.ts. */
export const indexingCases: CaseTable = {
  gather: [
    {
      name: 'rows of [4,3] by [2,2], one of them twice',
      operands: [uniform(1, [4, 3]), int64([3, 0, 3, 1], [2, 2])],
      build: (table, rows) => gather(table!, rows!),
      expected: (table, rows) => tabulate([2, 2, 3], (i, j, k) => table!.at(rows!.at(i, j), k)),
    },
    {
      name: 'rows of [2,1,2] by int32 [1]',
      operands: [uniform(1, [2, 1, 2]), int32([1], [1])],
      build: (table, rows) => gather(table!, rows!),
      expected: (table) => tabulate([1, 1, 2], (_, __, k) => table!.at(1, 0, k)),
    },
    {
      name: 'an element of [5] by a scalar',
      operands: [uniform(1, [5]), int64([2], [])],
      build: (table, row) => gather(table!, row!),
      expected: (table) => tabulate([], () => table!.at(2)),
    },
  ],
  scatterRows: [
    {
      name: 'rows [2,2,3] into [4,3], two of them into one',
      operands: [int64([3, 0, 3, 1], [2, 2]), uniform(1, [2, 2, 3])],
      build: (rows, values) => scatterRows([4, 3], rows!, values!),
      expected: (rows, values) =>
        tabulate([4, 3], (i, k) =>
          [0, 1, 2, 3].reduce((sum, n) => (rows!.data[n] === i ? sum + values!.data[3 * n + k]! : sum), 0),
        ),
    },
    {
      name: 'a number into [3] by an int32 scalar',
      operands: [int32([1], []), uniform(1, [])],
      build: (row, value) => scatterRows([3], row!, value!),
      expected: (_, value) => tabulate([3], (i) => (i === 1 ? value!.at() : 0)),
    },
    {
      name: 'integers',
      operands: [int64([1, 1], [2]), int64([5, 6], [2])],
      build: (rows, values) => scatterRows([2], rows!, values!),
      expected: () => tabulate([2], (i) => 11 * i),
    },
    {
      name: 'rows [2,3,2] into two tables [4,2], two of them into one',
      operands: [int64([3, 0, 3, 1, 2, 2], [2, 3]), uniform(1, [2, 3, 2])],
      build: (rows, values) => scatterRows([2, 4, 2], rows!, values!, 1),
      expected: (rows, values) =>
        tabulate([2, 4, 2], (b, i, k) =>
          [0, 1, 2].reduce((sum, n) => (rows!.at(b, n) === i ? sum + values!.at(b, n, k) : sum), 0),
        ),
    },
    {
      name: 'a number into each of two tables [3]',
      operands: [int32([1, 2], [2]), uniform(1, [2])],
      build: (rows, values) => scatterRows([2, 3], rows!, values!, 1),
      expected: (rows, values) => tabulate([2, 3], (b, i) => (rows!.at(b) === i ? values!.at(b) : 0)),
    },
  ],
  batchedGather: [
    {
      name: 'rows of two tables [4,3] by [2,2,2], one of them twice',
      operands: [uniform(1, [2, 4, 3]), int64([3, 0, 3, 1, 0, 0, 2, 1], [2, 2, 2])],
      build: (tables, rows) => gather(tables!, rows!, 1),
      expected: (tables, rows) => tabulate([2, 2, 2, 3], (b, i, j, k) => tables!.at(b, rows!.at(b, i, j), k)),
    },
    {
      name: 'an element of each of three tables [2] by int32 [3]',
      operands: [uniform(1, [3, 2]), int32([1, 0, 1], [3])],
      build: (tables, rows) => gather(tables!, rows!, 1),
      expected: (tables, rows) => tabulate([3], (b) => tables!.at(b, rows!.at(b))),
    },
    {
      name: 'rows of tables [2,2,3,2] by [2,2,1]',
      operands: [uniform(1, [2, 2, 3, 2]), int64([2, 0, 1, 2], [2, 2, 1])],
      build: (tables, rows) => gather(tables!, rows!, 2),
      expected: (tables, rows) =>
        tabulate([2, 2, 1, 2], (a, b, i, k) => tables!.at(a, b, rows!.at(a, b, i), k)),
    },
  ],
  gatherElements: [
    {
      name: '[2,4] by [2,3] along the last axis',
      operands: [uniform(1, [2, 4]), int64([0, 3, 3, 1, 1, 2], [2, 3])],
      build: (x, indices) => gatherElements(x!, indices!, -1),
      expected: (x, indices) => tabulate([2, 3], (i, j) => x!.at(i, indices!.at(i, j))),
    },
    {
      name: '[3,1,2] by [5,1,2] along the first axis',
      operands: [uniform(1, [3, 1, 2]), int64([0, 1, 2, 0, 1, 1, 0, 0, 2, 2], [5, 1, 2])],
      build: (x, indices) => gatherElements(x!, indices!, 0),
      expected: (x, indices) => tabulate([5, 1, 2], (i, _, k) => x!.at(indices!.at(i, 0, k), 0, k)),
    },
  ],
  scatterElements: [
    {
      name: '[2,3] into [2,4], two into one place',
      operands: [uniform(1, [2, 4]), int64([0, 3, 3, 1, 0, 2], [2, 3]), uniform(2, [2, 3])],
      build: (x, indices, updates) => scatterElements(x!, indices!, updates!, 1),
      expected: (x, indices, updates) =>
        tabulate([2, 4], (i, j) =>
          [0, 1, 2].reduce(
            (sum, n) => (indices!.at(i, n) === j ? sum + updates!.at(i, n) : sum),
            x!.at(i, j),
          ),
        ),
    },
    {
      name: '[1] into [1]',
      operands: [uniform(1, [1]), int64([0], [1]), uniform(2, [1])],
      build: (x, indices, updates) => scatterElements(x!, indices!, updates!, 0),
      expected: (x, _, updates) => tabulate([1], () => x!.at(0) + updates!.at(0)),
    },
  ],
  topK: [
    {
      name: '2 of [2,5] along the last axis',
      operands: [spaced(1, [2, 5])],
      build(x) {
        const { values, indices } = topK(x!, 2, -1);
        return [values, indices];
      },
      expected(x) {
        const order = [0, 1].map((i) => [0, 1, 2, 3, 4].sort((a, b) => x!.at(i, b) - x!.at(i, a)));
        return [
          tabulate([2, 2], (i, j) => x!.at(i, order[i]![j]!)),
          tabulate([2, 2], (i, j) => order[i]![j]!),
        ];
      },
    },
    {
      name: '1 of [4,3] along the first axis',
      operands: [spaced(1, [4, 3])],
      build(x) {
        const { values, indices } = topK(x!, 1, 0);
        return [values, indices];
      },
      expected(x) {
        const first = [0, 1, 2].map((j) => [0, 1, 2, 3].sort((a, b) => x!.at(b, j) - x!.at(a, j))[0]!);
        return [tabulate([1, 3], (_, j) => x!.at(first[j]!, j)), tabulate([1, 3], (_, j) => first[j]!)];
      },
    },
    {
      name: '1 of [2,3] whose last two are equal: the first of them',
      operands: [uniform(1, [2, 3])],
      build: (x) => topK(add(multiply(x!, 0), constant(Float32Array.of(0, 1, 1), [3])), 1, -1).indices,
      expected: () => tabulate([2, 1], () => 1),
    },
    {
      name: 'all of [3,1] along the first axis',
      operands: [spaced(2, [3, 1])],
      build: (x) => topK(x!, 3, 0).values,
      expected(x) {
        const sorted = [...x!.data].sort((a, b) => b - a);
        return tabulate([3, 1], (i) => sorted[i]!);
      },
    },
  ],
};
