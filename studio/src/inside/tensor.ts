/** Tensors of a trace. */
import type { EncodedValues } from '../../../src/inspect/trace.js';

export class Tensor {
  constructor(
    readonly dims: readonly number[],
    readonly data: Float32Array,
  ) {}

  /** The elements at these indices of the first dimensions. */
  row(...places: readonly number[]): Float32Array {
    const size = this.dims.slice(places.length).reduce((a, b) => a * b, 1);
    const at = places.reduce((sum, place, axis) => sum * this.dims[axis]! + place, 0);
    return this.data.subarray(at * size, (at + 1) * size);
  }

  /** Entries `first` to `end` - 1 of the first dimension. */
  slice(first: number, end: number): Tensor {
    const [count, ...rest] = this.dims as [number, ...number[]];
    const size = this.data.length / count;
    return new Tensor([end - first, ...rest], this.data.subarray(first * size, end * size));
  }
}

/** Decodes base64 of little-endian float32. */
export function tensorOf({ dims, data }: EncodedValues): Tensor {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return new Tensor(
    dims,
    Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true)),
  );
}
