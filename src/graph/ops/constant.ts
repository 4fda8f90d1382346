/** Constants: literals, fills, ranges, and the sizes of symbolic dimensions. */
import { type DType, literal, type TensorData } from '../dtype.js';
import { elementOf } from '../lower/stablehlo/value.js';
import type { Dim, Shape } from '../shape.js';
import { applyOne, definePrimitive, type Tensor } from '../tensor.js';
import { broadcastTo } from './broadcast.js';

const constantOperator = definePrimitive<{ data: TensorData; dtype: DType; shape: readonly number[] }>({
  name: 'constant',
  infer: (_, { dtype, shape }) => [{ dtype, shape }],
  lower: {
    onnx: (builder, _, { attributes }) => [
      builder.constant(attributes.data, attributes.shape, attributes.dtype),
    ],
    wasm: (builder, _, { attributes: { data, shape, dtype } }) => [
      builder.constant(data, shape, dtype, builder.key),
    ],
    stablehlo: (builder, _, { attributes: { data, shape, dtype } }) => [
      builder.constant(data, elementOf(dtype), shape),
    ],
  },
});

/** A literal tensor. */
export function constant(data: Float32Array | BigInt64Array | Int32Array, shape: readonly number[]): Tensor {
  const dtype = data instanceof Float32Array ? 'float32' : data instanceof Int32Array ? 'int32' : 'int64';
  return applyOne(constantOperator, [], { data, dtype, shape });
}

/** `value` itself if it is a tensor, else a scalar of `like`'s dtype. */
export function lift(value: Tensor | number, like: Tensor | number): Tensor {
  if (typeof value !== 'number') return value;
  return scalar(value, typeof like === 'number' ? 'float32' : like.dtype);
}

/** A constant scalar. */
export function scalar(value: number, dtype: DType = 'float32'): Tensor {
  return applyOne(constantOperator, [], { data: literal(value, dtype), dtype, shape: [] });
}

/** A tensor of `shape` in which every element is `value`. */
export function fill(shape: Shape, value: number, dtype: DType = 'float32'): Tensor {
  return broadcastTo(scalar(value, dtype), shape);
}

/** A tensor of zeros. */
export function zeros(shape: Shape, dtype: DType = 'float32'): Tensor {
  return fill(shape, 0, dtype);
}

const iotaOperator = definePrimitive<{ size: Dim; dtype: 'int64' | 'int32' }>({
  name: 'iota',
  infer: (_, { size, dtype }) => [{ dtype, shape: [size] }],
  lower: {
    onnx(builder, _, { attributes: { size, dtype } }) {
      const end = builder.emit('Squeeze', [builder.dim(size)])[0]!;
      const limit = dtype === 'int64' ? end : builder.cast(end, dtype);
      return builder.emit('Range', [builder.scalar(0, dtype), limit, builder.scalar(1, dtype)]);
    },
    wasm(builder, _, { attributes: { size, dtype } }) {
      const count = builder.resolve(size);
      const data =
        dtype === 'int64'
          ? BigInt64Array.from({ length: count }, (_, i) => BigInt(i))
          : Int32Array.from({ length: count }, (_, i) => i);
      return [builder.constant(data, [count], dtype, builder.key)];
    },
    stablehlo: (builder, _, { attributes: { size, dtype } }) => [
      builder.iota([builder.resolve(size)], 0, elementOf(dtype)),
    ],
  },
});

/** [0, 1, ..., size - 1] */
export function iota(size: Dim, dtype: 'int64' | 'int32' = 'int64'): Tensor {
  return applyOne(iotaOperator, [], { size, dtype });
}

const dimensionOperator = definePrimitive<{ dim: Dim }>({
  name: 'dimension',
  infer: () => [{ dtype: 'int64', shape: [] }],
  lower: {
    onnx: (builder, _, { attributes }) => builder.emit('Squeeze', [builder.dim(attributes.dim)]),
    wasm: (builder, _, { attributes: { dim } }) => [
      builder.constant(literal(builder.resolve(dim), 'int64'), [], 'int64', builder.key),
    ],
    stablehlo: (builder, _, { attributes: { dim } }) => [builder.splat(builder.resolve(dim), 'i64')],
  },
});

/** The value of a dimension at run time, as an int64 scalar. */
export function dimension(dim: Dim): Tensor {
  return applyOne(dimensionOperator, [], { dim });
}
