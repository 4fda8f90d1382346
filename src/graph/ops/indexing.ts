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
    return [{ dtype: table!.dtype, shape: [...indices!.shape, ...table!.shape.slice(1)] }];
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

/** Rows of `table` [rows, ...] by `indices` [...]: the result is [...indices, ...row]. */
export function gather(table: Tensor, indices: Tensor): Tensor {
  return applyOne(gatherOperator, [table, indices], null);
}

const scatterRowsOperator = defineComposite<{ shape: Shape }>({
  name: 'scatterRows',
  infer([indices, rows], { shape }) {
    expectIndices(indices!);
    if (!sameShape(rows!.shape, [...indices!.shape, ...shape.slice(1)])) {
      throw new ShapeError(`the rows do not fit a table of shape ${formatShape(shape)}`);
    }
    return [{ dtype: rows!.dtype, shape }];
  },
  gradient: ({ inputs, outputGradients: [g] }) => [undefined, gather(g!, inputs[0]!)],
  kernels: {
    onnx(builder, [indices, rows], { attributes: { shape }, inputs }) {
      if (!builder.fused.has('ScatterND')) return undefined;
      const zero = builder.scalar(0, inputs[1]!.dtype);
      const table = builder.emit('Expand', [zero, builder.shape(shape)])[0]!;
      const places = builder.cast(indices!, 'int64');
      const positions = builder.emit('Unsqueeze', [places, builder.ints([inputs[0]!.rank])])[0]!;
      return builder.emit('ScatterND', [table, positions, rows!], {
        attributes: { reduction: { string: 'add' } },
      });
    },
    stablehlo: (builder, [indices, rows], { attributes: { shape } }) => [
      hlo.scatterRows(builder, indices!, rows!, builder.dims(shape)),
    ],
  },
  expand([indices, rows], { shape }) {
    const count = multiplyDims(indices!.shape);
    const size = multiplyDims(shape.slice(1));
    const places = broadcastTo(reshape(indices!, [count, 1]), [count, size]);
    const table = zeros([shape[0]!, size], rows!.dtype);
    return [reshape(scatterElements(table, places, reshape(rows!, [count, size]), 0), shape)];
  },
});

/** A table of zeros to which each row [...indices, ...row] is added at its index: the transpose of `gather`. */
export function scatterRows(shape: Shape, indices: Tensor, rows: Tensor): Tensor {
  return applyOne(scatterRowsOperator, [indices, rows], { shape });
}

const gatherOfEachOperator = defineComposite<null>({
  name: 'gatherOfEach',
  infer([tables, indices]) {
    expectIndices(indices!);
    expectPairs(tables!.shape, indices!.shape);
    return [{ dtype: tables!.dtype, shape: [...indices!.shape, ...tables!.shape.slice(2)] }];
  },
  gradient: ({ inputs, outputGradients: [g] }) => [
    scatterRowsOfEach(inputs[0]!.shape, inputs[1]!, g!),
    undefined,
  ],
  kernels: {
    stablehlo: (builder, [tables, indices]) => [
      hlo.takeRows(builder, builder.plain(tables!), builder.plain(indices!), 1),
    ],
  },
  expand: ([tables, indices]) => [gather(joinedTables(tables!), inJoinedTables(tables!.shape, indices!))],
});

/** Batched gather: rows of tables [batch, rows, ...] by indices [batch, ...]: the result is [...indices, ...row]. */
export function gatherOfEach(tables: Tensor, indices: Tensor): Tensor {
  return applyOne(gatherOfEachOperator, [tables, indices], null);
}

const scatterRowsOfEachOperator = defineComposite<{ shape: Shape }>({
  name: 'scatterRowsOfEach',
  infer([indices, rows], { shape }) {
    expectIndices(indices!);
    expectPairs(shape, indices!.shape);
    if (!sameShape(rows!.shape, [...indices!.shape, ...shape.slice(2)])) {
      throw new ShapeError(`the rows do not fit tables of shape ${formatShape(shape)}`);
    }
    return [{ dtype: rows!.dtype, shape }];
  },
  gradient: ({ inputs, outputGradients: [g] }) => [undefined, gatherOfEach(g!, inputs[0]!)],
  kernels: {
    stablehlo: (builder, [indices, rows], { attributes: { shape } }) => [
      hlo.scatterRows(builder, indices!, rows!, builder.dims(shape), 1),
    ],
  },
  expand: ([indices, rows], { shape }) => {
    const joined = [multiplyDims(shape.slice(0, 2)), ...shape.slice(2)];
    return [reshape(scatterRows(joined, inJoinedTables(shape, indices!), rows!), shape)];
  },
});

/** Batched scatter-add into tables of zeros: the transpose of `gatherOfEach`. */
export function scatterRowsOfEach(shape: Shape, indices: Tensor, rows: Tensor): Tensor {
  return applyOne(scatterRowsOfEachOperator, [indices, rows], { shape });
}

function expectPairs(tables: Shape, indices: Shape): void {
  if (tables.length < 2 || indices.length < 1 || tables[0] !== indices[0]) {
    throw new ShapeError('expected tables [batch, rows, ...] and indices [batch, ...]');
  }
}

/** [batch, rows, ...] -> [batch * rows, ...] */
function joinedTables(tables: Tensor): Tensor {
  const [batch, rows, ...row] = tables.shape as [Dim, Dim, ...Dim[]];
  return reshape(tables, [multiplyDims([batch, rows]), ...row]);
}

/** Indices into tables of this shape as indices into the joined table. */
function inJoinedTables([batch, rows]: Shape, indices: Tensor): Tensor {
  const starts = multiply(iota(batch!), dimension(rows!));
  return add(indices, reshape(cast(starts, indices.dtype), [batch!, ...indices.shape.slice(1).map(() => 1)]));
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
