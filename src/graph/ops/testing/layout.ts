/** Cases for the operators that rearrange elements. */
import { elementwise, tabulate } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { coins, uniform } from '../../testing/random.js';
import { broadcastTo, reshape } from '../broadcast.js';
import { depthToSpace, spaceToDepth } from '../depth.js';
import { concat, pad, reverse, slice, split, transpose } from '../layout.js';

/** Cases of the operators in layout.ts. */
export const layoutCases: CaseTable = {
  reshape: [
    {
      name: '[2,3] to [3,2]',
      operands: [uniform(1, [2, 3])],
      build: (x) => reshape(x!, [3, 2]),
      expected: (x) => tabulate([3, 2], (i, j) => x!.data[2 * i + j]!),
    },
    {
      name: '[2,3,5] to [6,-1]',
      operands: [uniform(1, [2, 3, 5])],
      build: (x) => reshape(x!, [6, -1]),
      expected: (x) => tabulate([6, 5], (i, j) => x!.data[5 * i + j]!),
    },
    {
      name: 'a scalar to [1,1] and back',
      operands: [uniform(1, [])],
      build: (x) => reshape(reshape(x!, [1, 1]), []),
      expected: (x) => x!,
    },
    {
      name: '[2,0,3], which has no elements, to [3,0]',
      operands: [uniform(1, [2, 0, 3])],
      build: (x) => reshape(x!, [3, 0]),
      expected: () => tabulate([3, 0], () => 0),
    },
    {
      // In ONNX's Reshape a 0 copies the operand's dimension, which differs here.
      name: '[2,0], which has no elements, to [0,2]',
      operands: [uniform(1, [2, 0])],
      build: (x) => reshape(x!, [0, 2]),
      expected: () => tabulate([0, 2], () => 0),
    },
  ],
  transpose: [
    {
      name: '[2,3]',
      operands: [uniform(1, [2, 3])],
      build: (x) => transpose(x!, [1, 0]),
      expected: (x) => tabulate([3, 2], (i, j) => x!.at(j, i)),
    },
    {
      name: '[2,3,4], axes turned round',
      operands: [uniform(1, [2, 3, 4])],
      build: (x) => transpose(x!, [2, 0, 1]),
      expected: (x) => tabulate([4, 2, 3], (i, j, k) => x!.at(j, k, i)),
    },
    {
      name: 'a scalar',
      operands: [uniform(1, [])],
      build: (x) => transpose(x!, []),
      expected: (x) => x!,
    },
    {
      name: 'blocks of 2 x 2 in [2,4,6,3] to channels',
      operands: [uniform(1, [2, 4, 6, 3])],
      build: (x) => spaceToDepth(x!, 2),
      expected: (x) =>
        tabulate([2, 2, 3, 12], (b, i, j, d) =>
          x!.at(b, 2 * i + Math.floor(d / 6), 2 * j + (Math.floor(d / 3) % 2), d % 3),
        ),
    },
    {
      name: 'channels of [2,2,3,12] to blocks of 2 x 2',
      operands: [uniform(1, [2, 2, 3, 12])],
      build: (x) => depthToSpace(x!, 2),
      expected: (x) =>
        tabulate([2, 4, 6, 3], (b, i, j, c) => x!.at(b, i >> 1, j >> 1, 6 * (i % 2) + 3 * (j % 2) + c)),
    },
  ],
  broadcastTo: [
    {
      name: '[3] to [2,3]',
      operands: [uniform(1, [3])],
      build: (x) => broadcastTo(x!, [2, 3]),
      expected: (x) => tabulate([2, 3], (_, j) => x!.at(j)),
    },
    {
      name: '[2,1,3] to [4,2,5,3]',
      operands: [uniform(1, [2, 1, 3])],
      build: (x) => broadcastTo(x!, [4, 2, 5, 3]),
      expected: (x) => tabulate([4, 2, 5, 3], (_, i, j, k) => x!.at(i, j, k)),
    },
    {
      name: 'a scalar to [2,1]',
      operands: [uniform(1, [])],
      build: (x) => broadcastTo(x!, [2, 1]),
      expected: (x) => tabulate([2, 1], () => x!.at()),
    },
    {
      name: '[1,1] to [1,4]',
      operands: [uniform(1, [1, 1])],
      build: (x) => broadcastTo(x!, [1, 4]),
      expected: (x) => tabulate([1, 4], () => x!.data[0]!),
    },
  ],
  concat: [
    {
      name: '[2,1], [2,3] and [2,2] along axis 1',
      operands: [uniform(1, [2, 1]), uniform(2, [2, 3]), uniform(3, [2, 2])],
      build: (a, b, c) => concat([a!, b!, c!], 1),
      expected: (a, b, c) =>
        tabulate([2, 6], (i, j) => (j < 1 ? a!.data[i]! : j < 4 ? b!.at(i, j - 1) : c!.at(i, j - 4))),
    },
    {
      name: 'one tensor twice, along the first axis',
      operands: [uniform(1, [1, 2, 1])],
      build: (x) => concat([x!, x!], 0),
      expected: (x) => tabulate([2, 2, 1], (_, j, k) => x!.at(0, j, k)),
    },
    {
      name: 'with a piece without elements, along the last axis',
      operands: [uniform(1, [2, 0]), uniform(2, [2, 3])],
      build: (a, b) => concat([a!, b!], -1),
      expected: (_, b) => b!,
    },
    {
      name: 'pad, on both sides',
      operands: [uniform(1, [2, 3])],
      build: (x) => pad(x!, 1, 1, 2),
      expected: (x) => tabulate([2, 6], (i, j) => (j >= 1 && j < 4 ? x!.at(i, j - 1) : 0)),
    },
    {
      name: 'pad, of truth values, at the end',
      operands: [coins(1, [3])],
      build: (x) => pad(x!, 0, 0, 1),
      expected: (x) => tabulate([4], (i) => (i < 3 ? x!.at(i) : 0)),
    },
  ],
  slice: [
    {
      name: 'the middle of [2,5]',
      operands: [uniform(1, [2, 5])],
      build: (x) => slice(x!, 1, 1, 4),
      expected: (x) => tabulate([2, 3], (i, j) => x!.at(i, j + 1)),
    },
    {
      name: 'the start and the end of [5,2], overlapping',
      operands: [uniform(1, [5, 2])],
      build: (x) => [slice(x!, 0, 0, 3), slice(x!, -2, 2, 5)],
      expected: (x) => [tabulate([3, 2], (i, j) => x!.at(i, j)), tabulate([3, 2], (i, j) => x!.at(i + 2, j))],
    },
    {
      name: 'one element',
      operands: [uniform(1, [1, 3, 1])],
      build: (x) => slice(x!, 1, 2, 3),
      expected: (x) => tabulate([1, 1, 1], () => x!.at(0, 2, 0)),
    },
    {
      name: 'nothing',
      operands: [uniform(1, [2, 3])],
      build: (x) => slice(x!, 1, 3, 3),
      expected: () => tabulate([2, 0], () => 0),
    },
  ],
  split: [
    {
      name: '[2,6] into 1, 3 and 2 columns',
      operands: [uniform(1, [2, 6])],
      build: (x) => split(x!, 1, [1, 3, 2]),
      expected: (x) => [
        tabulate([2, 1], (i) => x!.at(i, 0)),
        tabulate([2, 3], (i, j) => x!.at(i, j + 1)),
        tabulate([2, 2], (i, j) => x!.at(i, j + 4)),
      ],
    },
    {
      name: 'a piece that nobody uses',
      operands: [uniform(1, [5])],
      build: (x) => split(x!, 0, [2, 2, 1])[1]!,
      expected: (x) => tabulate([2], (i) => x!.at(i + 2)),
    },
    {
      name: 'into a single piece',
      operands: [uniform(1, [1, 3])],
      build: (x) => split(x!, -1, [3]),
      expected: (x) => x!,
    },
  ],
  reverse: [
    {
      name: 'the first axis of [3,2]',
      operands: [uniform(1, [3, 2])],
      build: (x) => reverse(x!, 0),
      expected: (x) => tabulate([3, 2], (i, j) => x!.at(2 - i, j)),
    },
    {
      name: 'the last axis of [2,1,5]',
      operands: [uniform(1, [2, 1, 5])],
      build: (x) => reverse(x!, -1),
      expected: (x) => tabulate([2, 1, 5], (i, j, k) => x!.at(i, j, 4 - k)),
    },
    {
      name: 'an axis of size 1',
      operands: [uniform(1, [1])],
      build: (x) => reverse(x!, 0),
      expected: (x) => elementwise((value) => value!, x!),
    },
  ],
};
