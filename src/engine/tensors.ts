/** Tensors in JavaScript's memory and in files: what programs are fed, what they return, and their weights. */
import { DeviceError } from '../errors.js';
import { DTYPES, type DType, type TensorData } from '../graph/index.js';

export type { TensorData } from '../graph/index.js';

/** A tensor in JavaScript's memory. */
export interface HostTensor {
  readonly dtype: DType;
  readonly dims: readonly number[];
  readonly data: TensorData;
}

/**
 * A float32 tensor in files: the elements of its parts, one after the other. A device reads it by itself, without a copy
 * in JavaScript's memory; halves are widened.
 */
export interface StoredTensor {
  readonly dims: readonly number[];
  readonly parts: readonly StoredPart[];
}

/** Elements that lie together in a file. */
export interface StoredPart {
  readonly path: string;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly dtype: 'float32' | 'float16' | 'bfloat16' | 'uint8';
  /** The file as it was when its header was read (`FileStats.version`): a device refuses to read another. */
  readonly version?: string | undefined;
}

/** Matrices [..., rows, columns] in blocks of few bits, in memory or in files; see `QuantizedSource` of the graph. */
export interface QuantizedTensor {
  readonly dims: readonly number[];
  readonly bits: 4 | 8;
  readonly block: number;
  readonly codes: Uint8Array | StoredPart;
  readonly scales: Float32Array | StoredPart;
}

/** What a program's weight may be given as. */
export type Weight = HostTensor | StoredTensor | QuantizedTensor;

/** Whether a weight is a matrix in few bits. */
export function isQuantized(weight: Weight): weight is QuantizedTensor {
  return 'codes' in weight;
}

/** Whether a weight is to be read from files as it is. */
export function isStored(tensor: Weight): tensor is StoredTensor {
  return 'parts' in tensor;
}

/** A float32 tensor of these values, which it takes over where they are a Float32Array. */
export function float32(data: ArrayLike<number> | Float32Array, dims: readonly number[]): HostTensor {
  return { dtype: 'float32', dims, data: data instanceof Float32Array ? data : Float32Array.from(data) };
}

/** An int64 tensor of these whole numbers. */
export function int64(values: ArrayLike<number>, dims: readonly number[]): HostTensor {
  return { dtype: 'int64', dims, data: BigInt64Array.from(Array.from(values), BigInt) };
}

/** A tensor of zeros of the given type. Throws `DeviceError` for one that does not fit in memory. */
export function hostZeros(dtype: DType, dims: readonly number[]): HostTensor {
  const size = dims.reduce((a, b) => a * b, 1);
  try {
    return { dtype, dims, data: new DTYPES[dtype].array(size) };
  } catch (error) {
    throw new DeviceError(`a tensor of [${dims.join(',')}] does not fit in memory`, { cause: error });
  }
}

/**
 * Arrays of one type, one after the other; a single one as it is. Throws `DeviceError` where they do not fit in memory together.
 */
export function joinedArrays<Values extends Float32Array | Int32Array | Uint8Array>(
  Type: new (length: number) => Values,
  parts: readonly Values[],
): Values {
  if (parts.length === 1) return parts[0]!;
  const length = parts.reduce((total, part) => total + part.length, 0);
  let all: Values;
  try {
    all = new Type(length);
  } catch (error) {
    throw new DeviceError(`${length} numbers do not fit in memory`, { cause: error });
  }
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
