/** Cases for binary operators: every kind of broadcasting of two shapes. */
import { type HostTensor, int64 } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { elementwise, tabulate } from '../../testing/arrays.js';
import type { CaseTable, OperatorCase } from '../../testing/operator-case.js';
import { coins, spaced, uniform } from '../../testing/random.js';
import {
  add,
  and,
  divide,
  equal,
  greater,
  greaterOrEqual,
  less,
  lessOrEqual,
  maximum,
  minimum,
  multiply,
  or,
  power,
  subtract,
  where,
} from '../elementwise.js';

const PAIRS: readonly [readonly number[], readonly number[]][] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], [3]],
  [[3], [2, 3]],
  [
    [2, 1, 3],
    [5, 1],
  ],
  [
    [1, 1],
    [3, 2, 1],
  ],
  [[], [2, 2]],
  [[7], []],
  [[], []],
];

type Value = Tensor | number;

interface Binary {
  readonly build: (a: Value, b: Value) => Tensor;
  readonly of: (a: number, b: number) => number;
}

/** One case for each pair of shapes, with operands made by `left` and `right`. */
function binary(
  { build, of }: Binary,
  left: (dims: readonly number[]) => HostTensor,
  right: (dims: readonly number[]) => HostTensor,
): OperatorCase[] {
  return PAIRS.map(([a, b]) => ({
    name: `[${a}] and [${b}]`,
    operands: [left(a), right(b)],
    build: (x, y) => build(x!, y!),
    expected: (x, y) => elementwise(of, x!, y!),
  }));
}

/** An operand that is a plain number in the graph's code, on either side. */
function withNumber({ build, of }: Binary, number: number, operand: HostTensor): OperatorCase[] {
  const operands = [operand];
  return [
    {
      name: `[2,3] and ${number}`,
      operands,
      build: (x) => build(x!, number),
      expected: (x) => elementwise((a) => of(a, number), x!),
    },
    {
      name: `${number} and [2,3]`,
      operands,
      build: (x) => build(number, x!),
      expected: (x) => elementwise((a) => of(number, a), x!),
    },
  ];
}

const any = (seed: number) => (dims: readonly number[]) => uniform(seed, dims, -2, 2);
const positive = (seed: number) => (dims: readonly number[]) => uniform(seed, dims, 0.5, 2);
// At least an eighth apart, so that a finite difference does not change their order.
const ordered = (dims: readonly number[]) => spaced(1, dims, -1);
const between = (dims: readonly number[]) => spaced(2, dims, -0.875);
const small = (seed: number) => (dims: readonly number[]) => integers(seed, dims);

/** 0, 1 or 2, so that some of them are equal. */
function integers(seed: number, dims: readonly number[]): HostTensor {
  const data = Int32Array.from(uniform(seed, dims, 0, 3).data as Float32Array, (value) => Math.min(value, 2));
  return { dtype: 'int32', dims, data };
}

function smooth(operator: Binary, a = any(1), b = any(2)): OperatorCase[] {
  return [...binary(operator, a, b), ...withNumber(operator, 0.75, uniform(3, [2, 3], 0.5, 2))];
}

/** Cases of a comparison, on distinct floats and on integers that may be equal. */
function comparison(operator: Binary): OperatorCase[] {
  return [
    ...binary(operator, ordered, between),
    ...binary(operator, small(3), small(4)).map((proof) => ({ ...proof, name: `int32 ${proof.name}` })),
  ];
}

const holds = (relation: (a: number, b: number) => boolean) => (a: number, b: number) =>
  Number(relation(a, b));

/** Cases of the operators in binary.ts. */
export const binaryCases: CaseTable = {
  add: smooth({ build: add, of: (a, b) => a + b }),
  subtract: smooth({ build: subtract, of: (a, b) => a - b }),
  multiply: smooth({ build: multiply, of: (a, b) => a * b }),
  divide: [
    ...smooth({ build: divide, of: (a, b) => a / b }, any(1), positive(2)),
    {
      name: 'integers by integers, by 0 and by -1',
      operands: [int64([7, -7, 5, 0, 6], [5]), int64([2, 2, 0, 0, -1], [5])],
      build: (a, b) => divide(a!, b!),
      expected: () => tabulate([5], (i) => [3, -3, 0, 0, -6][i]!),
    },
    {
      name: 'the least integer by -1, which has no counterpart',
      operands: [{ dtype: 'int32', dims: [1], data: Int32Array.of(-(2 ** 31)) }],
      build: (a) => divide(a!, -1),
      expected: () => tabulate([1], () => -(2 ** 31)),
    },
  ],
  power: [
    ...smooth({ build: power, of: (a, b) => a ** b }, positive(1), any(2)),
    {
      // x * x through `power`: the derivative in x must not pass through log(x).
      name: 'a negative number to a whole power',
      operands: [uniform(5, [5], -2, -0.5)],
      build: (x) => power(x!, 2),
      expected: (x) => elementwise((a) => a * a, x!),
    },
  ],
  maximum: [
    ...binary({ build: maximum, of: Math.max }, ordered, between),
    ...withNumber({ build: maximum, of: Math.max }, -0.375, ordered([2, 3])),
  ],
  minimum: [
    ...binary({ build: minimum, of: Math.min }, ordered, between),
    ...withNumber({ build: minimum, of: Math.min }, -0.375, ordered([2, 3])),
  ],
  less: [
    ...comparison({ build: less, of: holds((a, b) => a < b) }),
    ...comparison({ build: greater, of: holds((a, b) => a > b) }),
  ],
  lessOrEqual: [
    ...comparison({ build: lessOrEqual, of: holds((a, b) => a <= b) }),
    ...comparison({ build: greaterOrEqual, of: holds((a, b) => a >= b) }),
  ],
  equal: comparison({ build: equal, of: holds((a, b) => a === b) }),
  and: binary(
    { build: and, of: (a, b) => a & b },
    (dims) => coins(1, dims),
    (dims) => coins(2, dims),
  ),
  or: binary(
    { build: or, of: (a, b) => a | b },
    (dims) => coins(1, dims),
    (dims) => coins(2, dims),
  ),
  where: [
    ...[
      [
        [2, 3],
        [2, 3],
        [2, 3],
      ],
      [[2, 1], [3], [2, 3]],
      [[4, 1, 1], [2, 1], [3]],
      [[], [2], [2, 1]],
      [[5], [], []],
    ].map(([condition, a, b]) => ({
      name: `[${condition}] ? [${a}] : [${b}]`,
      operands: [coins(7, condition!), uniform(8, a!), uniform(9, b!)],
      build: (c: Tensor, x: Tensor, y: Tensor) => where(c, x, y),
      expected: (...operands: Parameters<OperatorCase['expected']>) =>
        elementwise((c, x, y) => (c ? x! : y!), ...operands),
    })),
    {
      name: '[3] ? 1 : [3]',
      operands: [coins(7, [3]), uniform(8, [3])],
      build: (c, x) => where(c!, 1, x!),
      expected: (c, x) => elementwise((truth, value) => (truth ? 1 : value!), c!, x!),
    },
  ],
};
