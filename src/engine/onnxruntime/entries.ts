/** Slices of host tensors along one axis: copying out, writing and moving entries. */
import { type HostTensor, hostZeros } from '../tensors.js';

/** Copies of the entries `from` to `to` - 1 along `axis`. */
export function slice(tensor: HostTensor, axis: number, from: number, to: number): HostTensor {
  const taken = hostZeros(tensor.dtype, withDim(tensor.dims, axis, to - from));
  copyEntries(tensor, from, taken, 0, axis, to - from);
  return taken;
}

/** Writes `rows` into `target`, starting at entry `start` along `axis`; all other dimensions are equal. */
export function writeEntries(target: HostTensor, rows: HostTensor, axis: number, start: number): void {
  copyEntries(rows, 0, target, start, axis, rows.dims[axis]!);
}

/** Sets the entries `from` to `to` - 1 along `axis` to 0. */
export function clearEntries(tensor: HostTensor, axis: number, from: number, to: number): void {
  const inner = sizeOf(tensor.dims.slice(axis + 1));
  const stride = tensor.dims[axis]! * inner;
  const zero = tensor.data instanceof BigInt64Array ? 0n : 0;
  for (let start = 0; start < tensor.data.length; start += stride)
    tensor.data.fill(zero as never, start + from * inner, start + to * inner);
}

/** Copies `count` entries along `axis`, from entry `from` of `source` to entry `to` of `target`. */
export function copyEntries(
  source: HostTensor,
  from: number,
  target: HostTensor,
  to: number,
  axis: number,
  count: number,
): void {
  const inner = sizeOf(source.dims.slice(axis + 1));
  const outer = sizeOf(source.dims.slice(0, axis));
  const [sourceStride, targetStride] = [source.dims[axis]! * inner, target.dims[axis]! * inner];
  // All arrays of a dtype are of the same type.
  const [read, written] = [source.data as Float32Array, target.data as Float32Array];
  for (let i = 0; i < outer; i++) {
    const first = i * sourceStride + from * inner;
    written.set(read.subarray(first, first + count * inner), i * targetStride + to * inner);
  }
}

/** A view of row `row` of a tensor whose first axis has `rows`. With one row it is the whole tensor, whatever its axes. */
export function rowOf(tensor: HostTensor, row: number, rows: number): HostTensor {
  if (rows === 1) return tensor;
  const size = tensor.data.length / rows;
  const data = tensor.data.subarray(row * size, (row + 1) * size) as HostTensor['data'];
  return { dtype: tensor.dtype, dims: withDim(tensor.dims, 0, 1), data };
}

/** A tensor with data of its own. */
export function copyOf({ dtype, dims, data }: HostTensor): HostTensor {
  return { dtype, dims, data: data.slice() as HostTensor['data'] };
}

/** The number of elements of a tensor with these dimensions. */
export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}

/** The dimensions with another size along `axis`. */
export function withDim(dims: readonly number[], axis: number, size: number): number[] {
  return dims.map((dim, i) => (i === axis ? size : dim));
}
