/** Operators that reduce along axes, and running sums. */
import { ShapeError } from '../../errors.js';
import { type Dim, multiplyDims, type Shape, sameShape } from '../shape.js';
import { applyOne, axisOf, defineOperator, type Operator, type Tensor, type TensorType } from '../tensor.js';
import { divide, equal, multiply } from './arithmetic.js';
import { dimension } from './constant.js';
import { cast } from './elementwise.js';
import { broadcastTo, reshape } from './layout.js';

interface ReduceAttributes {
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

function reducedShape(shape: Shape, { axes, keepDims }: ReduceAttributes): Shape {
  return shape.flatMap((dim, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [dim]));
}

function inferReduce(
  inputs: readonly (TensorType | undefined)[],
  attributes: ReduceAttributes,
): TensorType[] {
  const x = inputs[0]!;
  return [{ dtype: x.dtype, shape: reducedShape(x.shape, attributes) }];
}

/** The gradient or result of a reduction, with the reduced axes back as size 1. */
function restoreAxes(y: Tensor, x: Tensor, { axes }: ReduceAttributes): Tensor {
  return reshape(y, reducedShape(x.shape, { axes, keepDims: true }));
}

function lowerReduce(onnx: string): NonNullable<Operator<ReduceAttributes>['lower']> {
  return (builder, [x], { attributes: { axes, keepDims } }) =>
    builder.emit(onnx, [x!, builder.ints(axes)], {
      // Without the second, no axes would mean all of them.
      attributes: { keepdims: { int: keepDims ? 1 : 0 }, noop_with_empty_axes: { int: 1 } },
    });
}

const sumOperator = defineOperator<ReduceAttributes>({
  name: 'sum',
  infer: inferReduce,
  gradient: ({ inputs, attributes, outputGradients: [g] }) => [
    broadcastTo(restoreAxes(g!, inputs[0]!, attributes), inputs[0]!.shape),
  ],
  lower: lowerReduce('ReduceSum'),
});

const maxOperator = defineOperator<ReduceAttributes>({
  name: 'max',
  infer: inferReduce,
  gradient({ inputs, outputs, attributes, outputGradients: [g] }) {
    const x = inputs[0]!;
    const isMax = cast(equal(x, restoreAxes(outputs[0]!, x, attributes)), 'float32');
    const share = divide(isMax, sum(isMax, attributes.axes, { keepDims: true }));
    return [multiply(share, restoreAxes(g!, x, attributes))];
  },
  lower: lowerReduce('ReduceMax'),
});

function attributesOf(
  operator: string,
  x: Tensor,
  axes?: number | readonly number[],
  options?: { keepDims?: boolean },
): ReduceAttributes {
  const list = axes === undefined ? x.shape.map((_, axis) => axis) : [axes].flat();
  return {
    axes: list.map((axis) => axisOf(operator, x, axis)),
    keepDims: options?.keepDims ?? false,
  };
}

/** The sum along `axes` (all by default). */
export function sum(x: Tensor, axes?: number | readonly number[], options?: { keepDims?: boolean }): Tensor {
  return applyOne(sumOperator, [x], attributesOf('sum', x, axes, options));
}

const sumOfSquaresOperator = defineOperator<null>({
  name: 'sumOfSquares',
  infer: ([x]) => [{ dtype: x!.dtype, shape: [] }],
  gradient: ({ inputs: [x], outputGradients: [g] }) => [multiply(multiply(x!, 2), g!)],
  lower: (builder, inputs) =>
    builder.emit('ReduceSumSquare', inputs, { attributes: { keepdims: { int: 0 } } }),
});

/** The sum of x^2 over all elements. */
export function sumOfSquares(x: Tensor): Tensor {
  return applyOne(sumOfSquaresOperator, [x], null);
}

/** The largest element along `axes` (all by default); the gradient is shared by equal ones. */
export function max(x: Tensor, axes?: number | readonly number[], options?: { keepDims?: boolean }): Tensor {
  return applyOne(maxOperator, [x], attributesOf('max', x, axes, options));
}

/** The mean along `axes` (all by default). */
export function mean(x: Tensor, axes?: number | readonly number[], options?: { keepDims?: boolean }): Tensor {
  const attributes = attributesOf('mean', x, axes, options);
  const count: Dim = multiplyDims(attributes.axes.map((axis) => x.shape[axis]!));
  const total = applyOne(sumOperator, [x], attributes);
  return typeof count === 'number'
    ? multiply(total, 1 / count)
    : divide(total, cast(dimension(count), 'float32'));
}

/** Sums `x` over the axes along which a tensor of `shape` was broadcast to it. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.rank - shape.length;
  const axes = x.shape.flatMap((dim, axis) =>
    axis < lead || (shape[axis - lead] === 1 && dim !== 1) ? [axis] : [],
  );
  return reshape(axes.length === 0 ? x : sum(x, axes, { keepDims: true }), shape);
}

interface CumulativeAttributes {
  readonly axis: number;
  readonly reverse: boolean;
}

const cumulativeSumOperator = defineOperator<CumulativeAttributes>({
  name: 'cumulativeSum',
  infer([x]) {
    if (x!.dtype === 'bool') throw new ShapeError('the operand must be numeric');
    return [{ dtype: x!.dtype, shape: x!.shape }];
  },
  gradient: ({ attributes: { axis, reverse }, outputGradients: [g] }) => [
    cumulativeSum(g!, axis, { reverse: !reverse }),
  ],
  lower: (builder, [x], { attributes: { axis, reverse } }) =>
    builder.emit('CumSum', [x!, builder.constant(new BigInt64Array([BigInt(axis)]), [])], {
      attributes: { reverse: { int: reverse ? 1 : 0 } },
    }),
});

/** y[i] = x[0] + ... + x[i] along `axis`; from the other end if `reverse`. */
export function cumulativeSum(x: Tensor, axis: number, options?: { reverse?: boolean }): Tensor {
  return applyOne(cumulativeSumOperator, [x], {
    axis: axisOf('cumulativeSum', x, axis),
    reverse: options?.reverse ?? false,
  });
}
