/** Tensors in JavaScript's memory and in files: the inputs, outputs and weights of programs. */
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
 * A float32 tensor in files, the concatenation of its parts. A device reads it without a copy in JavaScript's memory; 16-bit parts are
 * widened.
 */
export interface StoredTensor {
  readonly dims: readonly number[];
  readonly parts: readonly StoredPart[];
}

/** Contiguous elements of a file. */
export interface StoredPart {
  readonly path: string;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly dtype: 'float32' | 'float16' | 'bfloat16' | 'uint8';
  /** The version of the file whose header was read (`FileStats.version`): a device refuses a file that has changed. */
  readonly version?: string | undefined;
}

/** Quantized matrices [..., rows, columns] in memory or in files; see `QuantizedSource` of the graph. */
export interface QuantizedTensor {
  readonly dims: readonly number[];
  readonly bits: 4 | 8;
  readonly block: number;
  readonly codes: Uint8Array | StoredPart;
  readonly scales: Float32Array | StoredPart;
}

/** The forms of a program's weight. */
export type Weight = HostTensor | StoredTensor | QuantizedTensor;

/** Whether a weight is quantized. */
export function isQuantized(weight: Weight): weight is QuantizedTensor {
  return 'codes' in weight;
}

/** Whether a weight is a tensor in files. */
export function isStored(tensor: Weight): tensor is StoredTensor {
  return 'parts' in tensor;
}

/** A float32 tensor of these values. A Float32Array is used without a copy. */
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
 * The concatenation of arrays of one type; a single one without a copy. Throws `DeviceError` if it does not fit in memory.
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
