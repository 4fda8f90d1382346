/** The values of this target: buffers, and views of them with known dims. */
import type { DType, TensorData } from '../../dtype.js';
import { Element } from './codes.js';

/** The form of a weight in the executor's memory: rows of numbers, or quantized blocks with float32 scales. */
export type HeldWeight =
  | { readonly kind: 'numbers'; readonly element: Element }
  | { readonly kind: 'packed'; readonly bits: 4 | 8; readonly block: number };

/** The source of a buffer's contents, if no step writes it. */
export type Source =
  | { readonly kind: 'constant'; readonly data: TensorData }
  | { readonly kind: 'weight'; readonly name: string; readonly part: 'values' | 'codes' | 'scales' }
  | { readonly kind: 'fed'; readonly name: string };

/** A piece of memory, whose address the executor assigns. */
export class Buffer {
  constructor(
    readonly bytes: number,
    readonly source?: Source,
    /** Whether its contents are the same in every run; `key` identifies them, if possible. */
    readonly isConstant = false,
    readonly key?: string,
  ) {}
}

/** A strided view of a buffer; strides and offset are in elements. */
export interface View {
  readonly kind: 'view';
  readonly dtype: DType;
  readonly dims: readonly number[];
  readonly buffer: Buffer;
  /** The type of the elements in memory: a float32 tensor may be stored as bfloat16. */
  readonly element: Element;
  readonly strides: readonly number[];
  readonly offset: number;
}

/** Block-quantized matrices [..., rows, columns]. */
export interface Packed {
  readonly kind: 'packed';
  readonly dtype: 'float32';
  readonly dims: readonly number[];
  readonly bits: 4 | 8;
  readonly block: number;
  readonly codes: Buffer;
  readonly scales: Buffer;
}

/** A state before the run, of every row of the batch. */
export interface Kept {
  readonly kind: 'state';
  readonly dtype: DType;
  /** A getter: reading it makes the schedule depend on the buffer size of growing states. */
  readonly dims: readonly number[];
  readonly index: number;
  /** The growing axis. */
  readonly grows: number | undefined;
  /** Whether each row of the batch has its own. */
  readonly isBatched: boolean;
}

/** Dequantized entries of a growing state: float16, or int8 codes with scales in another state. */
export interface Coded {
  readonly kind: 'coded';
  readonly dtype: 'float32';
  readonly dims: readonly number[];
  readonly codes: Kept;
  readonly scales: Kept | undefined;
}

/** A value of the program, in one of the forms that kernels read. */
export type Value = View | Packed | Kept | Coded;

/** The kernels' number of each dtype. */
export const ELEMENTS: Readonly<Record<DType, Element>> = {
  float32: Element.float32,
  int64: Element.int64,
  int32: Element.int32,
  bool: Element.bool,
  bfloat16: Element.bfloat16,
  float16: Element.float16,
  int8: Element.int8,
  uint8: Element.uint8,
};

/** Bytes of an element. */
export const ELEMENT_BYTES: Readonly<Record<Element, number>> = {
  [Element.float32]: 4,
  [Element.int64]: 8,
  [Element.int32]: 4,
  [Element.bool]: 1,
  [Element.bfloat16]: 2,
  [Element.float16]: 2,
  [Element.int8]: 1,
  [Element.uint8]: 1,
};

/** The number of elements of these dims. */
export function count(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}

/** The strides of contiguous elements. */
export function contiguousStrides(dims: readonly number[]): number[] {
  const strides = dims.map(() => 1);
  for (let i = dims.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * dims[i + 1]!;
  return strides;
}

/** Whether the elements are contiguous and in row-major order. */
export function isContiguous({ dims, strides }: View): boolean {
  const expected = contiguousStrides(dims);
  return dims.every((dim, i) => dim === 1 || strides[i] === expected[i]) || count(dims) === 0;
}

/** The same elements with other dims without a copy, if strides allow it. */
export function reshaped(view: View, dims: readonly number[]): View | undefined {
  if (isContiguous(view)) return { ...view, dims, strides: contiguousStrides(dims) };
  const old = view.dims.flatMap((dim, i) => (dim === 1 ? [] : [{ dim, stride: view.strides[i]! }]));
  const strides = dims.map(() => 0);
  let from = 0;
  let to = 0;
  while (from < old.length) {
    // A group of old axes with as many elements as a group of new ones.
    let fromEnd = from + 1;
    let held = old[from]!.dim;
    let toEnd = to;
    let wanted = 1;
    while (wanted !== held || toEnd === to) {
      if (wanted < held || toEnd === to) {
        if (toEnd >= dims.length) return undefined;
        wanted *= dims[toEnd++]!;
      } else {
        if (fromEnd >= old.length) return undefined;
        held *= old[fromEnd++]!.dim;
      }
    }
    for (let i = from; i < fromEnd - 1; i++) {
      if (old[i]!.stride !== old[i + 1]!.stride * old[i + 1]!.dim) return undefined;
    }
    let stride = old[fromEnd - 1]!.stride;
    for (let i = toEnd - 1; i >= to; i--) {
      strides[i] = stride;
      stride *= dims[i]!;
    }
    from = fromEnd;
    to = toEnd;
  }
  return { ...view, dims, strides };
}

/** A view that is broadcast to `dims`. */
export function broadcast(view: View, dims: readonly number[]): View {
  const lead = dims.length - view.dims.length;
  const strides = dims.map((dim, i) =>
    i < lead || (view.dims[i - lead] === 1 && dim !== 1) ? 0 : view.strides[i - lead]!,
  );
  return { ...view, dims, strides };
}

/** The broadcast dims of operands. */
export function broadcastDims(all: readonly (readonly number[])[]): number[] {
  const rank = Math.max(0, ...all.map((dims) => dims.length));
  return Array.from({ length: rank }, (_, i) => {
    const sizes = all.map((dims) => dims[dims.length - rank + i] ?? 1);
    return sizes.find((size) => size !== 1) ?? 1;
  });
}

const ids = new WeakMap<object, number>();
let identified = 0;

/** A number for an object. */
export function idOf(object: object): number {
  let id = ids.get(object);
  if (id === undefined) {
    id = identified++;
    ids.set(object, id);
  }
  return id;
}
