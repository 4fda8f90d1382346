/** Lowerings of operators along an axis: softmax, cumulative sums, gather, scatter and top-k. */
import type { WasmBuilder } from './builder.js';
import { Kernel } from './codes.js';
import { around, computed, narrowed } from './operators.js';
import { count, ELEMENT_BYTES, type Value, type View } from './value.js';

/** Softmax along the last axis. */
export function softmaxInWasm(builder: WasmBuilder, input: Value, isLog: boolean): View {
  const x = builder.contiguous(input);
  const to = builder.allocate(x.dims, 'float32', [x.buffer]);
  const size = x.dims.at(-1)!;
  if (count(x.dims) === 0) return to;
  const words = [count(x.dims) / size, size, builder.at(x), builder.at(to), isLog ? 1 : 0];
  builder.step(Kernel.softmax, words, { reads: [x.buffer], writes: [to.buffer] });
  return to;
}

/** Cumulative sums along an axis. */
export function cumulativeInWasm(builder: WasmBuilder, input: Value, axis: number, isReverse: boolean): View {
  const x = builder.contiguous(computed(builder, input));
  const to = builder.allocate(x.dims, x.dtype, [x.buffer]);
  const words = [x.element, builder.at(x), builder.at(to), ...around(x.dims, axis), isReverse ? 1 : 0];
  if (count(x.dims) > 0) builder.step(Kernel.cumulative, words, { reads: [x.buffer], writes: [to.buffer] });
  return narrowed(builder, to, input.dtype);
}

/** `gatherElements` along an axis: indices have the result's shape. */
export function gatherElementsInWasm(builder: WasmBuilder, input: Value, indices: Value, axis: number): View {
  const x = builder.contiguous(input);
  const places = builder.contiguous(indices);
  const to = builder.allocate(places.dims, x.dtype, [x.buffer, places.buffer]);
  if (count(to.dims) === 0) return to;
  const [outer, size, inner] = around(x.dims, axis);
  builder.step(
    Kernel.gatherElements,
    [
      ELEMENT_BYTES[x.element],
      builder.at(x),
      builder.at(places),
      places.element,
      builder.at(to),
      outer,
      size,
      places.dims[axis]!,
      inner,
    ],
    { reads: [x.buffer, places.buffer], writes: [to.buffer] },
  );
  return to;
}

/** A copy of the input in which updates are added at the indices along an axis. */
export function scatterElementsInWasm(
  builder: WasmBuilder,
  [input, indices, updates]: readonly [Value, Value, Value],
  axis: number,
): View {
  const [x, places, added] = [computed(builder, input), indices, computed(builder, updates)].map((value) =>
    builder.contiguous(value),
  ) as [View, View, View];
  const reads = [x.buffer, places.buffer, added.buffer];
  const to = builder.allocate(x.dims, x.dtype, reads);
  if (count(to.dims) === 0) return narrowed(builder, to, input.dtype);
  const [outer, size, inner] = around(x.dims, axis);
  builder.step(
    Kernel.scatterElements,
    [
      x.element,
      builder.at(x),
      builder.at(places),
      places.element,
      builder.at(added),
      builder.at(to),
      outer,
      size,
      places.dims[axis]!,
      inner,
    ],
    { reads, writes: [to.buffer] },
  );
  return narrowed(builder, to, input.dtype);
}

/** The k largest values along an axis, the largest first, and their int64 indices. */
export function topKInWasm(builder: WasmBuilder, input: Value, k: number, axis: number): View[] {
  const x = builder.contiguous(computed(builder, input));
  const dims = x.dims.map((dim, i) => (i === axis ? k : dim));
  const values = builder.allocate(dims, 'float32', [x.buffer]);
  const indices = builder.allocate(dims, 'int64', [x.buffer]);
  if (count(dims) === 0) return [narrowed(builder, values, input.dtype), indices];
  const heaps = builder.allocate([builder.threads, k, 2], 'float32', [x.buffer]);
  const words = [
    builder.at(x),
    builder.at(values),
    builder.at(indices),
    ...around(x.dims, axis),
    k,
    builder.at(heaps),
    8 * k,
  ];
  const writes = [values.buffer, indices.buffer, heaps.buffer];
  builder.step(Kernel.topK, words, { reads: [x.buffer], writes });
  return [narrowed(builder, values, input.dtype), indices];
}
