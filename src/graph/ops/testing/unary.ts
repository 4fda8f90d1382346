/** Cases for unary element-wise operators, including activations. */
import type { HostTensor } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { elementwise, tabulate, total } from '../../testing/arrays.js';
import type { CaseTable, OperatorCase } from '../../testing/operator-case.js';
import { coins, spaced, uniform } from '../../testing/random.js';
import { gelu, geluTanh, relu, relu2, silu } from '../activation.js';
import {
  absolute,
  cast,
  cos,
  erf,
  exp,
  log,
  narrow,
  negate,
  not,
  sigmoid,
  sin,
  softplus,
  sqrt,
  tanh,
  wide,
} from '../elementwise.js';
import { widenEntries } from '../entries.js';

type Unary = (x: Tensor) => Tensor;

function unary(build: Unary, of: (x: number) => number, operands: readonly HostTensor[]): OperatorCase[] {
  return operands.map((operand) => ({
    name: `${operand.dtype}[${operand.dims}]`,
    operands: [operand],
    build: (x) => build(x!),
    expected: (x) => elementwise((value) => of(value!), x!),
  }));
}

const DIMS = [[], [1], [7], [2, 1, 3]];
const real = DIMS.map((dims) => uniform(1, dims, -3, 3));
const positive = DIMS.map((dims) => uniform(2, dims, 0.25, 4));
// At least an eighth away from zero, where |x| and max(x, 0) have no derivative.
const offZero = DIMS.map((dims) => spaced(3, dims, -0.625));

const logistic = (x: number) => 1 / (1 + Math.exp(-x));

/** Its Maclaurin series, which converges to float64's accuracy for the |x| <= 3 of these cases. */
function errorFunction(x: number): number {
  let factor = 1;
  const series = total(60, (n) => {
    if (n > 0) factor *= -(x * x) / n;
    return (factor * x) / (2 * n + 1);
  });
  return (2 / Math.sqrt(Math.PI)) * series;
}

/** Cases of the operators in unary.ts. */
export const unaryCases: CaseTable = {
  negate: unary(negate, (x) => -x, real),
  exp: unary(exp, Math.exp, real),
  log: unary(log, Math.log, positive),
  sqrt: unary(sqrt, Math.sqrt, positive),
  sin: unary(sin, Math.sin, real),
  cos: unary(cos, Math.cos, real),
  tanh: unary(tanh, Math.tanh, real),
  sigmoid: unary(sigmoid, logistic, real),
  softplus: unary(softplus, (x) => Math.log1p(Math.exp(x)), real),
  absolute: unary(absolute, Math.abs, offZero),
  erf: unary(erf, errorFunction, real),
  gelu: unary(gelu, (x) => (x / 2) * (1 + errorFunction(x / Math.SQRT2)), real),
  geluTanh: unary(
    geluTanh,
    (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    real,
  ),
  silu: unary(silu, (x) => x * logistic(x), real),
  maximum: [
    ...unary(relu, (x) => Math.max(x, 0), offZero),
    ...unary(relu2, (x) => Math.max(x, 0) ** 2, offZero),
  ],
  wide: unary(wide, (x) => x, real),
  narrow: unary(narrow, (x) => x, real),
  not: unary(not, (x) => 1 - x, [coins(4, []), coins(5, [3, 2])]),
  cast: [
    ...unary((x) => cast(x, 'int64'), Math.trunc, real),
    ...unary(
      (x) => cast(x, 'bool'),
      (x) => Number(x !== 0),
      [uniform(6, [5])],
    ),
    ...unary(
      (x) => cast(x, 'float32'),
      (x) => x,
      [coins(7, [3])],
    ),
    ...unary((x) => cast(cast(x, 'int32'), 'float32'), Math.trunc, real),
  ],
  widenEntries: [
    {
      name: 'int8 codes, each three with a scale',
      operands: [
        {
          dtype: 'int8',
          dims: [2, 4, 3],
          data: Int8Array.from(uniform(8, [2, 4, 3], -127, 127).data as Float32Array),
        },
        uniform(9, [2, 4, 1], 0.25, 2),
      ],
      build: (codes, scales) => widenEntries(codes!, scales),
      expected: (codes, scales) =>
        elementwise(
          (value, scale) => value! * scale!,
          codes!,
          tabulate([2, 4, 3], (i, j) => scales!.at(i, j, 0)),
        ),
    },
  ],
};
