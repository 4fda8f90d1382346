/** Operators that rearrange elements: transpose, concat, slice, pad, reverse. */

import { ShapeError } from '../../errors.js';
import type { Value as HloValue } from '../lower/stablehlo/value.js';
import { concatInWasm, part, reversed, transposed } from '../lower/wasm/operators.js';
import type { Value } from '../lower/wasm/value.js';
import { addDims, type Dim, formatShape, multiplyDims } from '../shape.js';
import {
  apply,
  applyOne,
  axisOf,
  defineComposite,
  definePrimitive,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { dimension, iota, zeros } from './constant.js';
import { subtract } from './elementwise.js';
import { gather } from './indexing.js';

const transposeOperator = definePrimitive<{ order: readonly number[] }>({
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
  lower: {
    onnx: (builder, inputs, { attributes }) =>
      builder.emit('Transpose', inputs, { attributes: { perm: { ints: [...attributes.order] } } }),
    wasm: (builder, [x], { attributes }) => [transposed(builder.view(x!), attributes.order)],
    stablehlo: (builder, [x], { attributes }) => [builder.transpose(builder.plain(x!), attributes.order)],
  },
});

/** Axis i of the result is axis order[i] of the operand. */
export function transpose(x: Tensor, order: readonly number[]): Tensor {
  return applyOne(transposeOperator, [x], { order });
}

const concatOperator = definePrimitive<{ axis: number }>({
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
  lower: {
    onnx: (builder, inputs, { attributes }) =>
      builder.emit('Concat', inputs, { attributes: { axis: { int: attributes.axis } } }),
    wasm: (builder, inputs, { attributes }) => [concatInWasm(builder, inputs as Value[], attributes.axis)],
    stablehlo: (builder, inputs, { attributes }) => [
      builder.concat(builder.alike(inputs as HloValue[]), attributes.axis),
    ],
  },
});

/** Concatenates tensors along an axis. */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length === 1) return tensors[0]!;
  return applyOne(concatOperator, tensors, { axis: axisOf('concat', tensors[0]!, axis) });
}

interface SliceAttributes {
  readonly axis: number;
  readonly start: Dim;
  readonly end: Dim;
}

/** Larger than the size of any axis: ONNX's Slice clamps it to the end. */
const BEYOND = Number.MAX_SAFE_INTEGER;

const sliceOperator = definePrimitive<SliceAttributes>({
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
  lower: {
    onnx(builder, [x], { attributes: { axis, start, end }, inputs }) {
      // Inside a loop the size may be unknown, so slice to the end.
      const last = end === inputs[0]!.shape[axis] ? builder.ints([BEYOND]) : builder.dim(end);
      return builder.emit('Slice', [x!, builder.dim(start), last, builder.ints([axis])]);
    },
    wasm(builder, [x], { attributes: { axis, start }, outputs }) {
      const size = builder.resolve(outputs[0]!.shape[axis]!);
      return [part(builder.view(x!), axis, builder.resolve(start), size)];
    },
    stablehlo(builder, [x], { attributes: { axis, start }, outputs }) {
      const from = builder.resolve(start);
      return [builder.slice(builder.plain(x!), axis, from, from + builder.resolve(outputs[0]!.shape[axis]!))];
    },
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

const splitOperator = defineComposite<{ axis: number; sizes: readonly Dim[] }>({
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
  expand([x], { axis, sizes }) {
    let start: Dim = 0;
    return sizes.map((size) => {
      const end = addDims(start, size);
      const piece = slice(x!, axis, start, end);
      start = end;
      return piece;
    });
  },
  kernels: {
    onnx: (builder, [x], { attributes: { axis, sizes } }) =>
      builder.fused.has('Split')
        ? builder.emit('Split', [x!, builder.shape(sizes)], {
            attributes: { axis: { int: axis } },
            outputs: sizes.length,
          })
        : undefined,
  },
});

/** Splits a tensor along an axis into pieces of the given sizes, which must add up to the axis. */
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

const reverseOperator = defineComposite<{ axis: number }>({
  name: 'reverse',
  infer: ([x]) => [{ dtype: x!.dtype, shape: x!.shape }],
  gradient: ({ attributes: { axis }, outputGradients: [g] }) => [reverse(g!, axis)],
  expand([x], { axis }) {
    const size = x!.shape[axis]!;
    const order = [axis, ...x!.shape.keys()].filter((other, i) => i === 0 || other !== axis);
    const backwards = subtract(subtract(dimension(size), 1), iota(size));
    return [
      transpose(
        gather(transpose(x!, order), backwards),
        order.map((_, i) => order.indexOf(i)),
      ),
    ];
  },
  kernels: {
    onnx(builder, [x], { attributes: { axis } }) {
      if (!builder.fused.has('Slice')) return undefined;
      const [last, backwards] = [builder.ints([-1]), builder.ints([-1])];
      return builder.emit('Slice', [x!, last, builder.ints([-(2 ** 31)]), builder.ints([axis]), backwards]);
    },
    wasm: (builder, [x], { attributes: { axis } }) => [reversed(builder.view(x!), axis)],
    stablehlo: (builder, [x], { attributes: { axis } }) => [builder.reverse(builder.plain(x!), axis)],
  },
});

/** Reverses the elements along an axis. */
export function reverse(x: Tensor, axis: number): Tensor {
  return applyOne(reverseOperator, [x], { axis: axisOf('reverse', x, axis) });
}
