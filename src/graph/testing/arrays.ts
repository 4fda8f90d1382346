/**
 * Arrays in float64, so that a test can state what an operator computes straight from its definition:
 * `tabulate([rows, columns], (i, j) => total(inner, (k) => a.at(i, k) * b.at(k, j)))`.
 */
import type { HostTensor } from '../../engine/index.js';

/** A dense array in float64, for definitions that results are compared with. */
export class NdArray {
  constructor(
    readonly dims: readonly number[],
    readonly data: Float64Array,
  ) {}

  /** The element at an index. An axis of size 1 answers for every index along it. */
  at(...index: number[]): number {
    let offset = 0;
    for (const [axis, size] of this.dims.entries()) offset = offset * size + (size === 1 ? 0 : index[axis]!);
    return this.data[offset]!;
  }
}

/** The number of elements of a shape. */
export function count(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}

/** The array whose element at `index` is `element(...index)`. */
export function tabulate(dims: readonly number[], element: (...index: number[]) => number): NdArray {
  const index = dims.map(() => 0);
  const data = new Float64Array(count(dims));
  for (let i = 0; i < data.length; i++) {
    data[i] = element(...index);
    for (let axis = dims.length - 1; axis >= 0 && ++index[axis]! === dims[axis]; axis--) index[axis] = 0;
  }
  return new NdArray(dims, data);
}

/** `f` of elements that share a place, with size-1 and missing leading axes repeated. */
export function elementwise(f: (...values: number[]) => number, ...operands: readonly NdArray[]): NdArray {
  const rank = Math.max(...operands.map(({ dims }) => dims.length));
  const aligned = operands.map(
    ({ dims, data }) => new NdArray([...Array<number>(rank - dims.length).fill(1), ...dims], data),
  );
  const dims = Array.from({ length: rank }, (_, axis) => Math.max(...aligned.map((x) => x.dims[axis]!)));
  return tabulate(dims, (...index) => f(...aligned.map((x) => x.at(...index))));
}

/** The sum of `term(0)` to `term(count - 1)`. */
export function total(count: number, term: (i: number) => number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += term(i);
  return sum;
}

/** The elements of a tensor in float64. */
export function toArray({ dims, data }: HostTensor): NdArray {
  return new NdArray(dims, Float64Array.from(data as ArrayLike<number | bigint>, Number));
}

/** |actual - expected| / |expected| in the Euclidean norm; the numerator alone where nothing but rounding is expected. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  const norm = Math.sqrt(total(expected.length, (i) => expected[i]! ** 2));
  return (
    Math.sqrt(total(expected.length, (i) => (actual[i]! - expected[i]!) ** 2)) / (norm > 1e-12 ? norm : 1)
  );
}
