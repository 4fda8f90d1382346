/** Gather, scatter and top-k. */

import { ShapeError } from '../../errors.js';
import * as hlo from '../lower/stablehlo/indexing.js';
import { gatherElementsInWasm, scatterElementsInWasm, topKInWasm } from '../lower/wasm/along-axis.js';
import { gatherInWasm } from '../lower/wasm/operators.js';
import { type Dim, formatShape, multiplyDims, type Shape, sameShape } from '../shape.js';
import {
  apply,
  applyOne,
  axisOf,
  defineComposite,
  definePrimitive,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { broadcastTo, reshape } from './broadcast.js';
import { dimension, iota, zeros } from './constant.js';
import { add, cast, multiply } from './elementwise.js';

function expectIndices({ dtype }: TensorType): void {
  if (dtype !== 'int64' && dtype !== 'int32') throw new ShapeError('the indices must be integers');
}

const gatherOperator = definePrimitive<null>({
  name: 'gather',
  infer([table, indices]) {
    expectIndices(indices!);
    return [{ dtype: table!.dtype, shape: pickedShape(table!.shape, indices!.shape, 0) }];
  },
  gradient: ({ inputs, outputGradients: [g] }) => [scatterRows(inputs[0]!.shape, inputs[1]!, g!), undefined],
  lower: {
    onnx(builder, inputs) {
      const table = builder.quantized.get(inputs[0]!);
      if (!table) return builder.emit('Gather', inputs, { attributes: { axis: { int: 0 } } });
      return builder.emit('GatherBlockQuantized', [table.codes(false), inputs[1]!, table.scales()], {
        domain: 'com.microsoft',
        attributes: {
          bits: { int: table.bits },
          block_size: { int: table.block },
          gather_axis: { int: 0 },
          quantize_axis: { int: 1 },
        },
      });
    },
    wasm: (builder, [table, indices]) => [gatherInWasm(builder, table!, indices!)],
    stablehlo: (builder, [table, indices]) => [hlo.gatherRows(builder, table!, indices!)],
  },
});

const batchedGatherOperator = defineComposite<{ batches: number }>({
  name: 'batchedGather',
  infer([tables, indices], { batches }) {
    expectIndices(indices!);
    return [{ dtype: tables!.dtype, shape: pickedShape(tables!.shape, indices!.shape, batches) }];
  },
  gradient: ({ inputs, attributes: { batches }, outputGradients: [g] }) => [
    scatterRows(inputs[0]!.shape, inputs[1]!, g!, batches),
    undefined,
  ],
  kernels: {
    stablehlo: (builder, [tables, indices], { attributes: { batches } }) => [
      hlo.takeRows(builder, builder.plain(tables!), builder.plain(indices!), batches),
    ],
  },
  expand([tables, indices], { batches }) {
    const { shape } = tables!;
    return [gather(reshape(tables!, joinedShape(shape, batches)), inJoinedTable(shape, indices!, batches))];
  },
});

/**
 * Rows of `table` [rows, ...row] by `indices` [...]: the result is [...indices, ...row]. With `batches` leading axes that tables
 * [...batch, rows, ...row] and indices [...batch, ...] share, each table has its own indices. Throws `ShapeError`.
 */
export function gather(table: Tensor, indices: Tensor, batches = 0): Tensor {
  return batches === 0
    ? applyOne(gatherOperator, [table, indices], null)
    : applyOne(batchedGatherOperator, [table, indices], { batches });
}

const scatterRowsOperator = defineComposite<{ shape: Shape; batches: number }>({
  name: 'scatterRows',
  infer([indices, rows], { shape, batches }) {
    expectIndices(indices!);
    if (!sameShape(rows!.shape, pickedShape(shape, indices!.shape, batches))) {
      throw new ShapeError(`the rows do not fit a table of shape ${formatShape(shape)}`);
    }
    return [{ dtype: rows!.dtype, shape }];
  },
  gradient: ({ inputs, attributes: { batches }, outputGradients: [g] }) => [
    undefined,
    gather(g!, inputs[0]!, batches),
  ],
  kernels: {
    onnx(builder, [indices, rows], { attributes: { shape, batches }, inputs }) {
      if (batches > 0 || !builder.fused.has('ScatterND')) return undefined;
      const zero = builder.scalar(0, inputs[1]!.dtype);
      const table = builder.emit('Expand', [zero, builder.shape(shape)])[0]!;
      const places = builder.cast(indices!, 'int64');
      const positions = builder.emit('Unsqueeze', [places, builder.ints([inputs[0]!.rank])])[0]!;
      return builder.emit('ScatterND', [table, positions, rows!], {
        attributes: { reduction: { string: 'add' } },
      });
    },
    stablehlo: (builder, [indices, rows], { attributes: { shape, batches } }) => [
      hlo.scatterRows(builder, indices!, rows!, builder.dims(shape), batches),
    ],
  },
  expand([indices, rows], { shape, batches }) {
    if (batches > 0) {
      const places = inJoinedTable(shape, indices!, batches);
      return [reshape(scatterRows(joinedShape(shape, batches), places, rows!), shape)];
    }
    const count = multiplyDims(indices!.shape);
    const size = multiplyDims(shape.slice(1));
    const places = broadcastTo(reshape(indices!, [count, 1]), [count, size]);
    const table = zeros([shape[0]!, size], rows!.dtype);
    return [reshape(scatterElements(table, places, reshape(rows!, [count, size]), 0), shape)];
  },
});

/** Tables of zeros of this shape, to which each row [...indices, ...row] is added at its index: the transpose of `gather`. */
export function scatterRows(shape: Shape, indices: Tensor, rows: Tensor, batches = 0): Tensor {
  return applyOne(scatterRowsOperator, [indices, rows], { shape, batches });
}

/** The shape of the rows that indices pick. Throws `ShapeError` where the leading `batches` axes differ. */
function pickedShape(tables: Shape, indices: Shape, batches: number): Shape {
  if (tables.length <= batches || !sameShape(tables.slice(0, batches), indices.slice(0, batches))) {
    const batch = batches > 0 ? '...batch, ' : '';
    throw new ShapeError(`expected a table [${batch}rows, ...] and indices [${batch}...]`);
  }
  return [...indices, ...tables.slice(batches + 1)];
}

/** [...batch, rows, ...row] -> [batch * rows, ...row] */
function joinedShape(tables: Shape, batches: number): Shape {
  return [multiplyDims(tables.slice(0, batches + 1)), ...tables.slice(batches + 1)];
}

/** Indices into tables of this shape as indices into the one table of `joinedShape`. */
function inJoinedTable(tables: Shape, indices: Tensor, batches: number): Tensor {
  const batch = indices.shape.slice(0, batches);
  const starts = multiply(iota(multiplyDims(batch)), dimension(tables[batches]!));
  const others = indices.shape.slice(batches).map(() => 1);
  return add(indices, reshape(cast(starts, indices.dtype), [...batch, ...others]));
}

const gatherElementsOperator = definePrimitive<{ axis: number }>({
  name: 'gatherElements',
  infer([x, indices], { axis }) {
    expectIndices(indices!);
    const fits =
      x!.shape.length === indices!.shape.length &&
      x!.shape.every((dim, i) => i === axis || dim === indices!.shape[i]);
    if (!fits) throw new ShapeError(`the operands differ elsewhere than along axis ${axis}`);
    return [{ dtype: x!.dtype, shape: indices!.shape }];
  },
  gradient: ({ inputs: [x, indices], attributes: { axis }, outputGradients: [g] }) => [
    scatterElements(zeros(x!.shape), indices!, g!, axis),
    undefined,
  ],
  lower: {
    onnx: (builder, inputs, { attributes }) =>
      builder.emit('GatherElements', inputs, { attributes: { axis: { int: attributes.axis } } }),
    wasm: (builder, [x, indices], { attributes }) => [
      gatherElementsInWasm(builder, x!, indices!, attributes.axis),
    ],
    stablehlo: (builder, [x, indices], { attributes }) => [
      hlo.gatherElements(builder, x!, indices!, attributes.axis),
    ],
  },
});

/** y[..., i, ...] = x[..., indices[..., i, ...], ...] along `axis`; all other axes are equal. */
export function gatherElements(x: Tensor, indices: Tensor, axis: number): Tensor {
  return applyOne(gatherElementsOperator, [x, indices], { axis: axisOf('gatherElements', x, axis) });
}

const scatterElementsOperator = definePrimitive<{ axis: number }>({
  name: 'scatterElements',
  infer([x, indices, updates]) {
    expectIndices(indices!);
    if (!sameShape(indices!.shape, updates!.shape))
      throw new ShapeError('indices and updates differ in shape');
    if (x!.dtype === 'bool' || x!.dtype !== updates!.dtype)
      throw new ShapeError('the operand and the updates must be numbers of one dtype');
    return [{ dtype: x!.dtype, shape: x!.shape }];
  },
  gradient: ({ inputs: [, indices], attributes: { axis }, outputGradients: [g] }) => [
    g!,
    undefined,
    gatherElements(g!, indices!, axis),
  ],
  lower: {
    onnx: (builder, inputs, { attributes }) =>
      builder.emit('ScatterElements', inputs, {
        attributes: { axis: { int: attributes.axis }, reduction: { string: 'add' } },
      }),
    wasm: (builder, [x, indices, updates], { attributes }) => [
      scatterElementsInWasm(builder, [x!, indices!, updates!], attributes.axis),
    ],
    stablehlo: (builder, [x, indices, updates], { attributes }) => [
      hlo.scatterElements(builder, [x!, indices!, updates!], attributes.axis),
    ],
  },
});

/** `x` with `updates` added at `indices` along `axis`. */
export function scatterElements(x: Tensor, indices: Tensor, updates: Tensor, axis: number): Tensor {
  return applyOne(scatterElementsOperator, [x, indices, updates], {
    axis: axisOf('scatterElements', x, axis),
  });
}

const topKOperator = definePrimitive<{ k: Dim; axis: number }>({
  name: 'topK',
  infer([x], { k, axis }) {
    if (!['float32', 'float16', 'bfloat16'].includes(x!.dtype))
      throw new ShapeError('the operand must be of floating-point numbers');
    const size = x!.shape[axis]!;
    if (typeof k === 'number' && typeof size === 'number' && k > size) {
      throw new ShapeError(`cannot take ${k} of ${size} elements`);
    }
    const shape = x!.shape.map((dim, i) => (i === axis ? k : dim));
    return [
      { dtype: x!.dtype, shape },
      { dtype: 'int64', shape },
    ];
  },
  gradient: ({ inputs: [x], outputs, attributes: { axis }, outputGradients: [g] }) => [
    g && scatterElements(zeros(x!.shape), outputs[1]!, g, axis),
  ],
  lower: {
    onnx: (builder, [x], { attributes: { k, axis } }) =>
      builder.emit('TopK', [x!, builder.dim(k)], { attributes: { axis: { int: axis } }, outputs: 2 }),
    wasm: (builder, [x], { attributes: { k, axis } }) => topKInWasm(builder, x!, builder.resolve(k), axis),
    stablehlo: (builder, [x], { attributes: { k, axis } }) => hlo.topK(builder, x!, builder.resolve(k), axis),
  },
});

/** The k largest along `axis` in descending order, and their int64 indices; lower index first among equals. */
export function topK(x: Tensor, k: Dim, axis: number): { values: Tensor; indices: Tensor } {
  const [values, indices] = apply(topKOperator, [x], { k, axis: axisOf('topK', x, axis) });
  return { values: values!, indices: indices! };
}
