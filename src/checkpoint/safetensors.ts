/**
 * Safetensors files: opening one reads only its header; tensors are read one at a time, and written as a stream.
 *
 * No tensor is in memory twice. A read fills the array that the caller gets; if the dtype is converted, the data pass
 * through one small buffer. Arrays are little-endian, like the format, on every platform of Node and ONNX Runtime.
 */
import { type OpenedFile, streamFileAtomic, type WriteBytes } from '#platform';
import { CheckpointError } from '../errors.js';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../graph/index.js';
import { openForReading, readExactly } from './file-reader.js';
import {
  arrayTypes,
  byteLengthOf,
  type Dtype,
  encodeHeader,
  LENGTH_BYTES,
  parseHeader,
  parseHeaderLength,
  requireTensor,
  type TensorData,
  type TensorInfo,
} from './safetensors-header.js';
import { count, quote } from './wording.js';

export type { Dtype, TensorData, TensorInfo } from './safetensors-header.js';

/** A tensor in memory: `data` is row-major, in the array type of `dtype`. */
export type TypedTensor = {
  [D in Dtype]: { readonly dtype: D; readonly shape: readonly number[]; readonly data: TensorData<D> };
}[Dtype];

/** Reads stored tensors by name. Reads may run concurrently. */
export interface TensorReader {
  /**
   * Reads one tensor in its stored dtype.
   *
   * @throws CheckpointError when there is no such tensor, it cannot be read, or there is too little memory
   */
  read(name: string): Promise<TypedTensor>;
  /**
   * Reads one floating-point tensor as float32: F16 and BF16 exactly, F64 rounded to nearest.
   *
   * @throws CheckpointError as `read` does, and for tensors of integers or booleans
   */
  readFloat32(name: string): Promise<Float32Array>;
  /**
   * Reads one floating-point tensor into `target`, which may be a part of a larger array, so that several stored tensors become
   * one without a copy. If the disk fails, a part of `target` has been overwritten.
   *
   * @throws CheckpointError as `readFloat32` does, and when the number of elements of `target` differs
   */
  readFloat32Into(name: string, target: Float32Array): Promise<void>;
  /** Closes the files; no read works afterwards. */
  close(): Promise<void>;
}

/** An open safetensors file. */
export interface SafetensorsFile extends TensorReader {
  /** The tensors by name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  /** The version of the file when it was opened; see `FileStats.version`. */
  readonly version: string;
}

/**
 * A tensor to write. `data` has the number of elements of `shape`, in the array type of `dtype`; or it is a Float32Array, which
 * is rounded to nearest for the dtypes F16 and BF16. It may be a function, which is called when the tensor is written, so that a model
 * larger than the memory can be written.
 */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: TensorData | (() => TensorData | Promise<TensorData>);
}

/**
 * A digest of a file that is stored in the file's own metadata. It is known when everything is written, and then replaces a `placeholder` of
 * the same length.
 */
export interface Seal {
  /** The key in the metadata. */
  readonly key: string;
  readonly placeholder: string;
  /** Is called once for each tensor, in the order of their names. */
  add(tensor: TensorToWrite, data: TensorData): void;
  digest(): string;
}

/** The size of the buffer for conversions: large enough for the disk's full rate, small compared with any model. */
const CHUNK_BYTES = 2 ** 20;

/**
 * Opens a safetensors file: reads its header, and checks that its tensors cover the file.
 *
 * @throws CheckpointError when there is no such file, or it is not a complete safetensors file
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await openForReading(path);
  try {
    const { size: fileBytes } = file;
    const start = new Uint8Array(Math.min(fileBytes, LENGTH_BYTES));
    await readExactly(file, start, 0);
    const header = new Uint8Array(parseHeaderLength(path, start, fileBytes));
    await readExactly(file, header, LENGTH_BYTES);
    const { tensors, metadata } = parseHeader(path, header, fileBytes);
    return new OpenSafetensors(file, tensors, metadata);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Writes a safetensors file atomically. Tensors are sorted by element size, largest first, so that each one is aligned, and
 * then by name: the same tensors give the same bytes. Their data are requested in that order; with a `seal`, in the order of
 * their names.
 *
 * @throws CheckpointError when a name, a shape or an array is invalid; StorageError when the file cannot be written
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
  seal?: Seal,
): Promise<void> {
  const ordered = [...tensors].sort(byElementSizeThenName);
  const names = new Set<string>();
  for (const { name, dtype, shape } of ordered) {
    if (names.has(name)) {
      throw new CheckpointError(`${path}: two tensors are called ${quote(name)}. Rename one of them.`);
    }
    names.add(name);
    if (byteLengthOf(dtype, shape) === undefined) {
      throw new CheckpointError(
        `${path}: tensor ${quote(name)} has the shape ${quote(shape)}, expected whole numbers with a countable product.`,
      );
    }
  }
  const headerWith = (sealed?: string): Uint8Array =>
    encodeHeader(path, ordered, seal ? { ...metadata, [seal.key]: sealed ?? seal.placeholder } : metadata);
  const header = headerWith();
  let end = header.byteLength;
  const placed = ordered.map((tensor) => {
    const start = end;
    end += byteLengthOf(tensor.dtype, tensor.shape)!;
    return { tensor, start };
  });
  if (seal) placed.sort((a, b) => (a.tensor.name < b.tensor.name ? -1 : 1));
  await streamFileAtomic(path, async (write) => {
    await write(header, 0);
    for (const { tensor, start } of placed) {
      const data = typeof tensor.data === 'function' ? await tensor.data() : tensor.data;
      seal?.add(tensor, data);
      await writeTensor(path, tensor, data, start, write);
    }
    if (seal) await write(headerWith(seal.digest()), 0);
  });
}

/** The place of a floating-point tensor, and its number of elements. */
interface StoredFloats {
  readonly dtype: 'F64' | 'F32' | 'F16' | 'BF16';
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly elements: number;
}

class OpenSafetensors implements SafetensorsFile {
  readonly #path: string;
  readonly #file: OpenedFile;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly version: string;

  constructor(
    file: OpenedFile,
    tensors: ReadonlyMap<string, TensorInfo>,
    metadata: Readonly<Record<string, string>>,
  ) {
    this.#path = file.path;
    this.#file = file;
    this.tensors = tensors;
    this.metadata = metadata;
    this.version = file.version;
  }

  async read(name: string): Promise<TypedTensor> {
    const { dtype, shape, byteOffset, byteLength } = requireTensor(this.#path, this.tensors, name);
    const buffer = this.#allocate(name, byteLength);
    await this.#fill(new Uint8Array(buffer), byteOffset);
    const TypedArray = arrayTypes[dtype] as new (buffer: ArrayBuffer) => TensorData;
    // The compiler cannot derive from the table that the array type matches the dtype.
    return { dtype, shape, data: new TypedArray(buffer) } as TypedTensor;
  }

  async readFloat32(name: string): Promise<Float32Array> {
    const stored = this.#findFloats(name);
    const values = new Float32Array(this.#allocate(name, stored.elements * 4));
    await this.#fillFloat32(stored, values);
    return values;
  }

  async readFloat32Into(name: string, target: Float32Array): Promise<void> {
    const stored = this.#findFloats(name);
    if (target.length !== stored.elements) {
      throw new CheckpointError(
        `${this.#path}: tensor ${quote(name)} has ${count(stored.elements, 'element')}, but the target array has ${target.length}. Check that the file belongs to the model.`,
      );
    }
    await this.#fillFloat32(stored, target);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #findFloats(name: string): StoredFloats {
    const { dtype, byteOffset, byteLength } = requireTensor(this.#path, this.tensors, name);
    if (dtype !== 'F32' && dtype !== 'F64' && dtype !== 'F16' && dtype !== 'BF16') {
      throw new CheckpointError(
        `${this.#path}: tensor ${quote(name)} is ${dtype}, expected a floating-point dtype. Check that it is the tensor you mean.`,
      );
    }
    return { dtype, byteOffset, byteLength, elements: byteLength / arrayTypes[dtype].BYTES_PER_ELEMENT };
  }

  async #fillFloat32(stored: StoredFloats, values: Float32Array): Promise<void> {
    const { dtype, byteOffset, byteLength } = stored;
    if (dtype === 'F32') {
      await this.#fill(bytesOf(values), byteOffset);
      return;
    }
    const elementBytes = arrayTypes[dtype].BYTES_PER_ELEMENT;
    const chunk = new Uint8Array(Math.min(byteLength, CHUNK_BYTES));
    for (let at = 0; at < byteLength; at += CHUNK_BYTES) {
      const bytes = chunk.subarray(0, Math.min(CHUNK_BYTES, byteLength - at));
      await this.#fill(bytes, byteOffset + at);
      const first = at / elementBytes;
      widen(dtype, bytes, values.subarray(first, first + bytes.byteLength / elementBytes));
    }
  }

  #allocate(name: string, bytes: number): ArrayBuffer {
    try {
      return new ArrayBuffer(bytes);
    } catch (error) {
      throw new CheckpointError(
        `${this.#path}: tensor ${quote(name)} needs ${bytes} contiguous bytes of memory, which are not available. Free some, or use a larger machine.`,
        { cause: error },
      );
    }
  }

  async #fill(bytes: Uint8Array, byteOffset: number): Promise<void> {
    await readExactly(this.#file, bytes, byteOffset);
  }
}

async function writeTensor(
  path: string,
  { name, dtype, shape }: TensorToWrite,
  data: TensorData,
  start: number,
  write: WriteBytes,
): Promise<void> {
  const elements = byteLengthOf(dtype, shape)! / arrayTypes[dtype].BYTES_PER_ELEMENT;
  if (data.length !== elements) {
    throw new CheckpointError(
      `${path}: tensor ${quote(name)} has ${data.length} elements, expected ${elements} by its shape ${quote(shape)}.`,
    );
  }
  if (data instanceof Float32Array && (dtype === 'F16' || dtype === 'BF16')) {
    await writeNarrowed(dtype, data, start, write);
  } else if (data instanceof arrayTypes[dtype]) {
    await write(bytesOf(data), start);
  } else {
    throw new CheckpointError(
      `${path}: tensor ${quote(name)} is ${dtype}, expected a ${arrayTypes[dtype].name}, got a ${data.constructor.name}.`,
    );
  }
}

async function writeNarrowed(
  dtype: 'F16' | 'BF16',
  data: Float32Array,
  start: number,
  write: WriteBytes,
): Promise<void> {
  const convert = dtype === 'F16' ? float32ToFloat16 : float32ToBfloat16;
  const chunk = new Uint16Array(Math.min(data.length, CHUNK_BYTES / 2));
  for (let at = 0; at < data.length; at += chunk.length) {
    const values = data.subarray(at, at + chunk.length);
    const narrowed = convert(values, chunk.subarray(0, values.length));
    await write(bytesOf(narrowed), start + at * chunk.BYTES_PER_ELEMENT);
  }
}

function widen(dtype: 'F64' | 'F16' | 'BF16', bytes: Uint8Array, values: Float32Array): void {
  if (dtype === 'F64') {
    values.set(new Float64Array(bytes.buffer, bytes.byteOffset, values.length));
    return;
  }
  const convert = dtype === 'F16' ? float16ToFloat32 : bfloat16ToFloat32;
  convert(new Uint16Array(bytes.buffer, bytes.byteOffset, values.length), values);
}

function bytesOf(data: TensorData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function byElementSizeThenName(a: TensorToWrite, b: TensorToWrite): number {
  const bySize = arrayTypes[b.dtype].BYTES_PER_ELEMENT - arrayTypes[a.dtype].BYTES_PER_ELEMENT;
  return bySize || (a.name < b.name ? -1 : 1);
}
