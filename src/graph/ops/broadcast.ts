/** Broadcasting and its transpose, the sum: each is the gradient of the other, and both need reshape. */

import { ShapeError } from '../../errors.js';
import type { OnnxBuilder, OnnxLowering } from '../lower/onnx/builder.js';
import { hloSum } from '../lower/stablehlo/reduce.js';
import { Reduction } from '../lower/wasm/codes.js';
import { reshapedOrCopied, wasmReduction } from '../lower/wasm/operators.js';
import { broadcast } from '../lower/wasm/value.js';
import { broadcastShapes, divideDim, formatShape, multiplyDims, type Shape, sameShape } from '../shape.js';
import {
  applyOne,
  axisOf,
  definePrimitive,
  type Node,
  type Tensor,
  type TensorType,
  withShapeContext,
} from '../tensor.js';

const reshapeOperator = definePrimitive<{ shape: Shape }>({
  name: 'reshape',
  infer([x], { shape }) {
    if (multiplyDims(x!.shape) !== multiplyDims(shape)) {
      throw new ShapeError(`${formatShape(shape)} has another number of elements`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  gradient: ({ inputs, outputGradients: [g] }) => [reshape(g!, inputs[0]!.shape)],
  lower: {
    onnx: reshapeInOnnx,
    wasm: (builder, [x], { attributes: { shape } }) => [reshapedOrCopied(builder, x!, builder.dims(shape))],
    stablehlo: (builder, [x], { attributes: { shape } }) => [
      builder.reshape(builder.plain(x!), builder.dims(shape)),
    ],
  },
});
function reshapeInOnnx(
  builder: OnnxBuilder,
  [x]: readonly string[],
  { attributes: { shape }, inputs }: Node<{ shape: Shape }>,
): string[] {
  // In ONNX's Reshape, 0 copies the operand's dimension and one -1 is inferred, so that no sizes are computed at run time. But -1 is ambiguous
  // if a copied dimension is zero, and a literal 0 needs `allowzero`.
  const source = inputs[0]!.shape;
  const resolved = shape.map((dim) => builder.resolve(dim));
  const literal = resolved.every((dim) => typeof dim === 'number');
  const hints = resolved.map((dim, i) => (typeof dim === 'number' ? dim : shape[i] === source[i] ? 0 : -1));
  const open = hints.filter((dim) => dim === -1).length;
  if (!literal && !resolved.includes(0) && (open === 0 || (open === 1 && !hints.includes(0)))) {
    return builder.emit('Reshape', [x!, builder.ints(hints)]);
  }
  return builder.emit('Reshape', [x!, builder.shape(shape)], { attributes: { allowzero: { int: 1 } } });
}

/** The same elements in another shape. One dimension may be -1, which is inferred. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const open = shape.indexOf(-1);
  if (open < 0) return sameShape(x.shape, shape) ? x : applyOne(reshapeOperator, [x], { shape });
  const whole = withShapeContext('reshape', [x], () => {
    const known = shape.filter((_, i) => i !== open);
    const rest = known.includes(-1) ? undefined : divideDim(multiplyDims(x.shape), multiplyDims(known));
    if (rest === undefined) throw new ShapeError(`${formatShape(shape)} leaves no whole dimension for -1`);
    return shape.map((dim, i) => (i === open ? rest : dim));
  });
  return reshape(x, whole);
}

const broadcastOperator = definePrimitive<{ shape: Shape }>({
  name: 'broadcastTo',
  infer([x], { shape }) {
    const common = broadcastShapes(x!.shape, shape);
    if (!common || !sameShape(common, shape))
      throw new ShapeError(`does not broadcast to ${formatShape(shape)}`);
    return [{ dtype: x!.dtype, shape }];
  },
  gradient: ({ inputs, outputGradients: [g] }) => [sumTo(g!, inputs[0]!.shape)],
  lower: {
    onnx: (builder, [x], { attributes }) => builder.emit('Expand', [x!, builder.shape(attributes.shape)]),
    wasm: (builder, [x], { attributes: { shape } }) => [broadcast(builder.view(x!), builder.dims(shape))],
    stablehlo: (builder, [x], { attributes: { shape } }) => [
      builder.broadcast(builder.plain(x!), builder.dims(shape)),
    ],
  },
});

/** Broadcasts dimensions of size 1 and missing leading dimensions to `shape`. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : applyOne(broadcastOperator, [x], { shape });
}

/** The non-negative axes of a reduction, and whether they are kept as size 1. */
export interface ReduceAttributes {
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

function reducedShape(shape: Shape, { axes, keepDims }: ReduceAttributes): Shape {
  return shape.flatMap((dim, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [dim]));
}

/** The shape rule of reductions: the dtype of the input, with the axes of size 1 or removed. */
export function inferReduction(
  inputs: readonly (TensorType | undefined)[],
  attributes: ReduceAttributes,
): TensorType[] {
  const x = inputs[0]!;
  return [{ dtype: x.dtype, shape: reducedShape(x.shape, attributes) }];
}

/** The gradient or result of a reduction, with the reduced axes back as size 1. */
export function restoreAxes(y: Tensor, x: Tensor, { axes }: ReduceAttributes): Tensor {
  return reshape(y, reducedShape(x.shape, { axes, keepDims: true }));
}

/** ONNX's reduction of this name. */
export function onnxReduction(opType: string): OnnxLowering<ReduceAttributes> {
  return (builder, [x], { attributes: { axes, keepDims } }) =>
    builder.emit(opType, [x!, builder.ints(axes)], {
      // Without the second attribute, an empty list of axes would mean all of them.
      attributes: { keepdims: { int: keepDims ? 1 : 0 }, noop_with_empty_axes: { int: 1 } },
    });
}

const sumOperator = definePrimitive<ReduceAttributes>({
  name: 'sum',
  infer: inferReduction,
  gradient: ({ inputs, attributes, outputGradients: [g] }) => [
    broadcastTo(restoreAxes(g!, inputs[0]!, attributes), inputs[0]!.shape),
  ],
  lower: { onnx: onnxReduction('ReduceSum'), wasm: wasmReduction(Reduction.sum), stablehlo: hloSum },
});

/** The attributes of a reduction along `axes` (all by default). */
export function reductionOf(
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
  return applyOne(sumOperator, [x], reductionOf('sum', x, axes, options));
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
