/** Operators that rearrange elements without computing: reshape, transpose, repeat, join, cut, mirror. */
import { ShapeError } from '../../errors.js';
import {
  addDims,
  broadcastShapes,
  type Dim,
  divideDim,
  formatShape,
  multiplyDims,
  type Shape,
  sameShape,
} from '../shape.js';
import { apply, applyOne, axisOf, defineOperator, explain, type Tensor, type TensorType } from '../tensor.js';
import { zeros } from './constant.js';
import { sumTo } from './reduce.js';

const reshapeOperator = defineOperator<{ shape: Shape }>({
  name: 'reshape',
  infer([x], { shape }) {
    if (multiplyDims(x!.shape) !== multiplyDims(shape)) {
      throw new ShapeError(`${formatShape(shape)} has another number of elements`);
    }
    return [{ dtype: x!.dtype, shape }];
  },
  gradient: ({ inputs, outputGradients: [g] }) => [reshape(g!, inputs[0]!.shape)],
  lower(builder, [x], { attributes: { shape }, inputs }) {
    // 0 copies the operand's dimension at that place, and one -1 takes the rest: no run-time arithmetic then. But -1
    // says nothing where a copied dimension turns out to be zero, and a 0 that is meant needs `allowzero`.
    const source = inputs[0]!.shape;
    const resolved = shape.map((dim) => builder.resolve(dim));
    const literal = resolved.every((dim) => typeof dim === 'number');
    const hints = resolved.map((dim, i) => (typeof dim === 'number' ? dim : shape[i] === source[i] ? 0 : -1));
    const open = hints.filter((dim) => dim === -1).length;
    if (!literal && !resolved.includes(0) && (open === 0 || (open === 1 && !hints.includes(0)))) {
      return builder.emit('Reshape', [x!, builder.ints(hints)]);
    }
    return builder.emit('Reshape', [x!, builder.shape(shape)], { attributes: { allowzero: { int: 1 } } });
  },
});

/** The same elements in another shape. One dimension may be -1: it takes what is left. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const open = shape.indexOf(-1);
  if (open < 0) return sameShape(x.shape, shape) ? x : applyOne(reshapeOperator, [x], { shape });
  const whole = explain('reshape', [x], () => {
    const known = shape.filter((_, i) => i !== open);
    const rest = known.includes(-1) ? undefined : divideDim(multiplyDims(x.shape), multiplyDims(known));
    if (rest === undefined) throw new ShapeError(`${formatShape(shape)} leaves no whole dimension for -1`);
    return shape.map((dim, i) => (i === open ? rest : dim));
  });
  return reshape(x, whole);
}

const transposeOperator = defineOperator<{ order: readonly number[] }>({
  name: 'transpose',
  infer([x], { order }) {
    const axes = x!.shape.map((_, axis) => axis);
    if (order.length !== axes.length || axes.some((axis) => !order.includes(axis))) {
      throw new ShapeError(`${formatShape(order)} is no permutation of the axes`);
    }
    return [{ dtype: x!.dtype, shape: order.map((axis) => x!.shape[axis]!) }];
  },
  gradient: ({ attributes: { order }, outputGradients: [g] }) => [
    transpose(
      g!,
      order.map((_, axis) => order.indexOf(axis)),
    ),
  ],
  lower: (builder, inputs, { attributes }) =>
    builder.emit('Transpose', inputs, { attributes: { perm: { ints: [...attributes.order] } } }),
});

/** Axis i of the result is axis order[i] of the operand. */
export function transpose(x: Tensor, order: readonly number[]): Tensor {
  return applyOne(transposeOperator, [x], { order });
}

const broadcastOperator = defineOperator<{ shape: Shape }>({
  name: 'broadcastTo',
  infer([x], { shape }) {
    const common = broadcastShapes(x!.shape, shape);
    if (!common || !sameShape(common, shape))
      throw new ShapeError(`does not broadcast to ${formatShape(shape)}`);
    return [{ dtype: x!.dtype, shape }];
  },
  gradient: ({ inputs, outputGradients: [g] }) => [sumTo(g!, inputs[0]!.shape)],
  lower: (builder, [x], { attributes }) => builder.emit('Expand', [x!, builder.shape(attributes.shape)]),
});

/** Repeats size-1 and missing leading dimensions up to `shape`. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : applyOne(broadcastOperator, [x], { shape });
}

const concatOperator = defineOperator<{ axis: number }>({
  name: 'concat',
  infer(inputs, { axis }) {
    const [first, ...others] = inputs as TensorType[];
    for (const other of others) {
      const fits = other.shape.length === first!.shape.length && other.dtype === first!.dtype;
      if (!fits || other.shape.some((dim, i) => i !== axis && dim !== first!.shape[i])) {
        throw new ShapeError(`the operands differ elsewhere than along axis ${axis}`);
      }
    }
    const along = addDims(...(inputs as TensorType[]).map((x) => x.shape[axis]!));
    return [{ dtype: first!.dtype, shape: first!.shape.map((dim, i) => (i === axis ? along : dim)) }];
  },
  gradient({ inputs, attributes: { axis }, outputGradients: [g], needs }) {
    let start: Dim = 0;
    return inputs.map((x, i) => {
      const end = addDims(start, x!.shape[axis]!);
      const part = needs(i) ? slice(g!, axis, start, end) : undefined;
      start = end;
      return part;
    });
  },
  lower: (builder, inputs, { attributes }) =>
    builder.emit('Concat', inputs, { attributes: { axis: { int: attributes.axis } } }),
});

/** Joins tensors along an axis. */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length === 1) return tensors[0]!;
  return applyOne(concatOperator, tensors, { axis: axisOf('concat', tensors[0]!, axis) });
}

interface SliceAttributes {
  readonly axis: number;
  readonly start: Dim;
  readonly end: Dim;
}

/** Behind the end of any axis. */
const BEYOND = Number.MAX_SAFE_INTEGER;

const sliceOperator = defineOperator<SliceAttributes>({
  name: 'slice',
  infer([x], { axis, start, end }) {
    const size = addDims(end, negateDim(start));
    const beyond = addDims(x!.shape[axis]!, negateDim(end));
    if ([start, size, beyond].some((dim) => typeof dim === 'number' && dim < 0)) {
      throw new ShapeError(`the range ${start}..${end} lies outside axis ${axis}`);
    }
    return [{ dtype: x!.dtype, shape: x!.shape.map((dim, i) => (i === axis ? size : dim)) }];
  },
  gradient({ inputs, attributes: { axis, start, end }, outputGradients: [g] }) {
    return [pad(g!, axis, start, addDims(inputs[0]!.shape[axis]!, negateDim(end)))];
  },
  lower(builder, [x], { attributes: { axis, start, end }, inputs }) {
    // Where a loop ended is not known as a dimension.
    const last = end === inputs[0]!.shape[axis] ? builder.ints([BEYOND]) : builder.dim(end);
    return builder.emit('Slice', [x!, builder.dim(start), last, builder.ints([axis])]);
  },
});

function negateDim(dim: Dim): Dim {
  return multiplyDims([dim, -1]);
}

/** Elements start..end-1 along an axis. */
export function slice(x: Tensor, axis: number, start: Dim, end: Dim): Tensor {
  const at = axisOf('slice', x, axis);
  if (start === 0 && end === x.shape[at]) return x;
  return applyOne(sliceOperator, [x], { axis: at, start, end });
}

const splitOperator = defineOperator<{ axis: number; sizes: readonly Dim[] }>({
  name: 'split',
  infer([x], { axis, sizes }) {
    if (addDims(...sizes) !== x!.shape[axis])
      throw new ShapeError(`[${sizes}] does not add up along axis ${axis}`);
    return sizes.map((size) => ({
      dtype: x!.dtype,
      shape: x!.shape.map((dim, i) => (i === axis ? size : dim)),
    }));
  },
  gradient: ({ attributes: { axis }, outputs, outputGradients }) => [
    concat(
      outputs.map((piece, i) => outputGradients[i] ?? zeros(piece.shape)),
      axis,
    ),
  ],
  lower: (builder, [x], { attributes: { axis, sizes } }) =>
    builder.emit('Split', [x!, builder.shape(sizes)], {
      attributes: { axis: { int: axis } },
      outputs: sizes.length,
    }),
});

/** Cuts a tensor along an axis into pieces of the given sizes, which must add up. */
export function split(x: Tensor, axis: number, sizes: readonly Dim[]): Tensor[] {
  return [...apply(splitOperator, [x], { axis: axisOf('split', x, axis), sizes })];
}

/** Adds `before` and `after` zeros along an axis. */
export function pad(x: Tensor, axis: number, before: Dim, after: Dim): Tensor {
  const at = axisOf('pad', x, axis);
  const block = (size: Dim): Tensor[] =>
    size === 0
      ? []
      : [
          zeros(
            x.shape.map((dim, i) => (i === at ? size : dim)),
            x.dtype,
          ),
        ];
  return concat([...block(before), x, ...block(after)], at);
}

const reverseOperator = defineOperator<{ axis: number }>({
  name: 'reverse',
  infer: ([x]) => [{ dtype: x!.dtype, shape: x!.shape }],
  gradient: ({ attributes: { axis }, outputGradients: [g] }) => [reverse(g!, axis)],
  lower(builder, [x], { attributes: { axis } }) {
    const beforeFirst = builder.ints([-(2 ** 31)]);
    return builder.emit('Slice', [
      x!,
      builder.ints([-1]),
      beforeFirst,
      builder.ints([axis]),
      builder.ints([-1]),
    ]);
  },
});

/** The elements in the opposite order along an axis. */
export function reverse(x: Tensor, axis: number): Tensor {
  return applyOne(reverseOperator, [x], { axis: axisOf('reverse', x, axis) });
}
