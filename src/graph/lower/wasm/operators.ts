/** Lowerings shared by several operators. */
import type { DType } from '../../dtype.js';
import type { WasmBuilder, WasmLowering } from './builder.js';
import { Element, Instruction, Kernel, Reduction } from './codes.js';
import { registerOf } from './map.js';
import { PRODUCT_UNIT } from './share.js';
import type { Word } from './step.js';
import { count, ELEMENT_BYTES, isContiguous, type Packed, reshaped, type Value, type View } from './value.js';

/** Lowers an element-wise operator to the instruction of this name, for the dtype of its operands. */
export function wasmMap(name: string, result?: DType): WasmLowering<unknown> {
  return (builder, inputs) => {
    // The first operand of `where` is the condition.
    const { dtype } = inputs.at(-1)!;
    return [builder.map(instructionOf(name, dtype), result ?? dtype, inputs as Value[])];
  };
}

function instructionOf(name: string, dtype: DType): Instruction {
  const instruction = Instruction[`${name}${registerOf(dtype)}` as keyof typeof Instruction];
  if (instruction === undefined) throw new Error(`there is no ${name} of ${dtype}`);
  return instruction;
}

/** Converts a value to another dtype. */
export function castInWasm(builder: WasmBuilder, x: Value, to: DType): View {
  const [from, into] = [registerOf(x.dtype), registerOf(to)];
  const view = builder.view(x);
  if (from !== into) {
    return builder.map(Instruction[`cast${from}${into}` as keyof typeof Instruction], to, [view]);
  }
  const result = builder.allocate(view.dims, to, [view.buffer]);
  builder.store(result, view, 'cast');
  return result;
}

/** The dtypes in which kernels add and compare: smaller dtypes are widened first, and results narrowed. */
const COMPUTED: Readonly<Partial<Record<DType, DType>>> = {
  float16: 'float32',
  bfloat16: 'float32',
  int8: 'int32',
  uint8: 'int32',
};

/** Widens an operand to a dtype that kernels compute in. */
export function computed(builder: WasmBuilder, value: Value): Value {
  const wider = COMPUTED[value.dtype];
  return wider ? castInWasm(builder, value, wider) : value;
}

/** Narrows a result to its dtype. */
export function narrowed(builder: WasmBuilder, view: View, dtype: DType): View {
  return view.dtype === dtype ? view : castInWasm(builder, view, dtype);
}

/** A reduction along axes. */
export function wasmReduction(what: Reduction): WasmLowering<{ axes: readonly number[]; keepDims: boolean }> {
  return (builder, [input], { attributes: { axes }, outputs }) => {
    const given = builder.view(computed(builder, input!));
    const isNatural = given.element <= Element.bool;
    const x = isNatural ? given : builder.copy(given);
    const kept = x.dims.flatMap((_, axis) => (axes.includes(axis) ? [] : [axis]));
    const y = builder.allocate(builder.dims(outputs[0]!.shape), x.dtype, [x.buffer]);
    const words: Word[] = [
      what,
      x.element,
      builder.at(x),
      builder.at(y),
      count(y.dims),
      kept.length,
      ...kept.map((axis) => x.dims[axis]!),
      ...kept.map((axis) => x.strides[axis]!),
      axes.length,
      ...axes.map((axis) => x.dims[axis]!),
      ...axes.map((axis) => x.strides[axis]!),
    ];
    if (count(y.dims) > 0) {
      builder.step(Kernel.reduce, words, {
        reads: [x.buffer],
        writes: [y.buffer],
        label: Reduction[what],
      });
    }
    return [narrowed(builder, y, input!.dtype)];
  };
}

/** A shape as three factors around an axis: the product of the sizes before it, its own size, and the product of those after it. */
export function around(dims: readonly number[], axis: number): [outer: number, size: number, inner: number] {
  return [count(dims.slice(0, axis)), dims[axis]!, count(dims.slice(axis + 1))];
}

/** A slice of a view along an axis. */
export function part(view: View, axis: number, start: number, size: number): View {
  const dims = view.dims.map((dim, i) => (i === axis ? size : dim));
  return { ...view, dims, offset: view.offset + start * view.strides[axis]! };
}

/** A view with an axis reversed. */
export function reversed(view: View, axis: number): View {
  const stride = view.strides[axis]!;
  return {
    ...view,
    offset: view.offset + Math.max(0, view.dims[axis]! - 1) * stride,
    strides: view.strides.map((other, i) => (i === axis ? -stride : other)),
  };
}

/** A view with permuted axes, without a copy. */
export function transposed(view: View, order: readonly number[]): View {
  return {
    ...view,
    dims: order.map((axis) => view.dims[axis]!),
    strides: order.map((axis) => view.strides[axis]!),
  };
}

/** A view with other dims: of the same buffer if its strides allow it, otherwise of a copy. */
export function reshapedOrCopied(builder: WasmBuilder, value: Value, dims: readonly number[]): View {
  const view = builder.view(value);
  return reshaped(view, dims) ?? reshaped(builder.copy(view), dims)!;
}

/** Concatenates along an axis. */
export function concatInWasm(builder: WasmBuilder, inputs: readonly Value[], axis: number): View {
  const views = inputs.map((input) => builder.view(input));
  const size = views.reduce((sum, { dims }) => sum + dims[axis]!, 0);
  const dims = views[0]!.dims.map((dim, i) => (i === axis ? size : dim));
  const to = builder.allocate(
    dims,
    views[0]!.dtype,
    views.map(({ buffer }) => buffer),
  );
  let at = 0;
  for (const view of views) {
    builder.store(part(to, axis, at, view.dims[axis]!), view, 'concat');
    at += view.dims[axis]!;
  }
  return to;
}

/** The product over the last two axes, with optional transposition of each operand. */
export function matmulInWasm(
  builder: WasmBuilder,
  a: Value,
  b: Value,
  { transposeA, transposeB }: { transposeA: boolean; transposeB: boolean },
): View {
  if (!transposeA && transposeB) {
    if (b.kind === 'packed' && b.dims.length === 2) return builder.products.packedMatmul(a, b);
    const rows = b.kind === 'view' && b.dims.length === 2 ? rowsProduct(builder, a, b) : undefined;
    if (rows) return rows;
  }
  return generalProduct(builder, swapped(builder.view(a), transposeA), swapped(builder.view(b), transposeB));
}

/** x times the transpose of a weight [n, k] whose rows are contiguous, in float32 or bfloat16; undefined for other operands. */
function rowsProduct(builder: WasmBuilder, a: Value, b: View): View | undefined {
  if (!isContiguous(b) || (b.element !== Element.float32 && b.element !== Element.bfloat16)) return undefined;
  const [n, k] = b.dims as [number, number];
  const x = builder.rows(a);
  const dims = [...a.dims.slice(0, -1), n];
  const to = builder.allocate(dims, 'float32', [x.buffer, b.buffer]);
  const m = count(dims.slice(0, -1));
  if (m * n === 0) return to;
  builder.step(
    Kernel.rowsMatmul,
    [b.element, m, n, k, { buffer: x.buffer, bytes: x.bytes }, x.stride, builder.at(b), builder.at(to)],
    {
      reads: [x.buffer, b.buffer],
      writes: [to.buffer],
      label: `matmul [${n},${k}] ${Element[b.element]}`,
      weightBytes: b.buffer.isConstant ? n * k * ELEMENT_BYTES[b.element] : 0,
      share: { length: n, unit: PRODUCT_UNIT, along: [] },
    },
  );
  return to;
}

function swapped(view: View, isSwapped: boolean): View {
  if (!isSwapped) return view;
  const order = view.dims.map((_, i) => i);
  order.splice(-2, 2, order.length - 1, order.length - 2);
  return transposed(view, order);
}

function generalProduct(builder: WasmBuilder, left: View, right: View): View {
  const numbers = (view: View): View => (view.element === Element.float32 ? view : builder.copy(view));
  const a = numbers(left);
  const b = numbers(right);
  const [m, k] = a.dims.slice(-2) as [number, number];
  const n = b.dims.at(-1)!;
  // A product with a single column is computed as its transpose, with a single row, since the kernel processes columns together.
  if (n === 1 && m > 1) {
    const row = generalProduct(builder, swapped(b, true), swapped(a, true));
    return reshaped(row, [...row.dims.slice(0, -2), m, 1])!;
  }
  const rank = Math.max(a.dims.length, b.dims.length) - 2;
  const axis = (view: View, i: number): { dim: number; stride: number } => {
    const at = i - (rank - (view.dims.length - 2));
    return at < 0 || view.dims[at] === 1
      ? { dim: 1, stride: 0 }
      : { dim: view.dims[at]!, stride: view.strides[at]! };
  };
  const axes = Array.from({ length: rank }, (_, i) => ({ a: axis(a, i), b: axis(b, i) }));
  const batch = axes.map(({ a, b }) => (a.dim === 1 ? b.dim : a.dim));
  const to = builder.allocate([...batch, m, n], 'float32', [a.buffer, b.buffer]);
  if (count(to.dims) === 0) return to;
  builder.step(
    Kernel.matmul,
    [
      m,
      n,
      k,
      builder.at(a),
      ...a.strides.slice(-2),
      builder.at(b),
      ...b.strides.slice(-2),
      builder.at(to),
      count(batch),
      rank,
      ...batch,
      ...axes.map(({ a }) => a.stride),
      ...axes.map(({ b }) => b.stride),
    ],
    { reads: [a.buffer, b.buffer], writes: [to.buffer], label: `matmul ${m}x${k}x${n}` },
  );
  return to;
}

/** `gather`: rows of a table, which may be quantized. */
export function gatherInWasm(builder: WasmBuilder, table: Value, indices: Value): View {
  const places = builder.contiguous(indices);
  const entries = count(places.dims);
  if (table.kind === 'packed') return gatherPacked(builder, table, places, entries);
  const given = builder.view(table);
  const isHalf = given.element === Element.bfloat16 && given.dtype === 'float32' && isContiguous(given);
  const rows = isHalf ? given : builder.contiguous(given);
  const size = count(rows.dims.slice(1));
  const to = builder.allocate([...places.dims, ...rows.dims.slice(1)], rows.dtype, [
    places.buffer,
    rows.buffer,
  ]);
  if (count(to.dims) === 0) return to;
  builder.step(
    Kernel.gather,
    [
      isHalf ? 1 : 0,
      size * ELEMENT_BYTES[rows.element],
      rows.dims[0]!,
      builder.at(places),
      places.element,
      entries,
      builder.at(rows),
      builder.at(to),
    ],
    { reads: [places.buffer, rows.buffer], writes: [to.buffer] },
  );
  return to;
}

function gatherPacked(builder: WasmBuilder, table: Packed, places: View, entries: number): View {
  const { bits, block, codes, scales } = table;
  const [rows, columns] = table.dims as [number, number];
  const to = builder.allocate([...places.dims, columns], 'float32', [places.buffer, codes]);
  if (count(to.dims) === 0) return to;
  builder.step(
    Kernel.gatherPacked,
    [
      bits,
      block,
      columns,
      rows,
      builder.at(places),
      places.element,
      entries,
      { buffer: codes, bytes: 0 },
      { buffer: scales, bytes: 0 },
      builder.at(to),
    ],
    { reads: [places.buffer, codes, scales], writes: [to.buffer], label: 'gather' },
  );
  return to;
}
