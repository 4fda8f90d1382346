/** Other reductions along axes, and cumulative sums. */

import { ShapeError } from '../../errors.js';
import { cumulativeSum as cumulativeInHlo, hloMax } from '../lower/stablehlo/reduce.js';
import { cumulativeInWasm } from '../lower/wasm/along-axis.js';
import { Reduction } from '../lower/wasm/codes.js';
import { wasmReduction } from '../lower/wasm/operators.js';
import { type Dim, multiplyDims } from '../shape.js';
import { applyOne, axisOf, defineComposite, definePrimitive, type Tensor } from '../tensor.js';
import {
  inferReduction,
  onnxReduction,
  type ReduceAttributes,
  reductionOf,
  restoreAxes,
  sum,
} from './broadcast.js';
import { dimension } from './constant.js';
import { cast, divide, equal, multiply, wide } from './elementwise.js';

const maxOperator = definePrimitive<ReduceAttributes>({
  name: 'max',
  infer: inferReduction,
  gradient({ inputs, outputs, attributes, outputGradients: [g] }) {
    const x = inputs[0]!;
    const isMax = cast(equal(x, restoreAxes(outputs[0]!, x, attributes)), 'float32');
    const share = divide(isMax, sum(isMax, attributes.axes, { keepDims: true }));
    return [multiply(share, restoreAxes(g!, x, attributes))];
  },
  lower: { onnx: onnxReduction('ReduceMax'), wasm: wasmReduction(Reduction.max), stablehlo: hloMax },
});

const sumOfSquaresOperator = defineComposite<null>({
  name: 'sumOfSquares',
  infer: ([x]) => [{ dtype: x!.dtype, shape: [] }],
  gradient: ({ inputs: [x], outputGradients: [g] }) => [multiply(multiply(x!, 2), g!)],
  expand: ([x]) => [sum(multiply(wide(x!), wide(x!)))],
  kernels: {
    onnx: (builder, inputs) =>
      builder.fused.has('ReduceSumSquare')
        ? builder.emit('ReduceSumSquare', inputs, { attributes: { keepdims: { int: 0 } } })
        : undefined,
  },
});

/** The sum of x^2 over all elements. */
export function sumOfSquares(x: Tensor): Tensor {
  return applyOne(sumOfSquaresOperator, [x], null);
}

/** The largest element along `axes` (all by default); the gradient is shared by equal ones. */
export function max(x: Tensor, axes?: number | readonly number[], options?: { keepDims?: boolean }): Tensor {
  return applyOne(maxOperator, [x], reductionOf('max', x, axes, options));
}

/** The mean along `axes` (all by default). */
export function mean(x: Tensor, axes?: number | readonly number[], options?: { keepDims?: boolean }): Tensor {
  const attributes = reductionOf('mean', x, axes, options);
  const count: Dim = multiplyDims(attributes.axes.map((axis) => x.shape[axis]!));
  const total = sum(x, axes, options);
  return typeof count === 'number'
    ? multiply(total, 1 / count)
    : divide(total, cast(dimension(count), 'float32'));
}

interface CumulativeAttributes {
  readonly axis: number;
  readonly reverse: boolean;
}

const cumulativeSumOperator = definePrimitive<CumulativeAttributes>({
  name: 'cumulativeSum',
  infer([x]) {
    if (x!.dtype === 'bool') throw new ShapeError('the operand must be numeric');
    return [{ dtype: x!.dtype, shape: x!.shape }];
  },
  gradient: ({ attributes: { axis, reverse }, outputGradients: [g] }) => [
    cumulativeSum(g!, axis, { reverse: !reverse }),
  ],
  lower: {
    onnx: (builder, [x], { attributes: { axis, reverse } }) =>
      builder.emit('CumSum', [x!, builder.scalar(axis, 'int64')], {
        attributes: { reverse: { int: reverse ? 1 : 0 } },
      }),
    wasm: (builder, [x], { attributes: { axis, reverse } }) => [cumulativeInWasm(builder, x!, axis, reverse)],
    stablehlo: (builder, [x], { attributes: { axis, reverse } }) => [
      cumulativeInHlo(builder, x!, axis, reverse),
    ],
  },
});

/** y[i] = x[0] + ... + x[i] along `axis`; from the other end if `reverse`. */
export function cumulativeSum(x: Tensor, axis: number, options?: { reverse?: boolean }): Tensor {
  return applyOne(cumulativeSumOperator, [x], {
    axis: axisOf('cumulativeSum', x, axis),
    reverse: options?.reverse ?? false,
  });
}
