/**
 * The header of a safetensors file: the names, dtypes, shapes and offsets of its tensors.
 *
 * A file is the header's length (8 bytes, little-endian), the header (JSON, padded with spaces), and the tensors' bytes, back
 * to back:
 *
 *   {"__metadata__": {"format": "pt"}, "norm.weight": {"dtype": "BF16", "shape": [64], "data_offsets": [0, 128]}, ...}
 *
 * Offsets count from the end of the header. The tensors must cover the rest of the file exactly, without overlaps or holes, so
 * a truncated download is detected when the file is opened. A header is untrusted: every field is checked before it is used, and no
 * memory is allocated for sizes that only the header claims.
 */
import { CheckpointError } from '../errors.js';
import { refuseGitLfsPointer } from './file-reader.js';
import { isObject, parseStrictJson } from './strict-json.js';
import { count, quote } from './wording.js';

/** The array type of each dtype in memory. 16-bit floats are kept as their bits (see `half.ts`), 8-bit floats as their
 * bytes (`float8.ts`), booleans as 0 and 1. */
export const arrayTypes = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  F8_E4M3: Uint8Array,
  F8_E5M2: Uint8Array,
  BOOL: Uint8Array,
} as const;

/** A dtype, as safetensors files name it. */
export type Dtype = keyof typeof arrayTypes;

/** The array type of a tensor of dtype `D` in memory. */
export type TensorData<D extends Dtype = Dtype> = (typeof arrayTypes)[D]['prototype'];

/** The dtype, shape and place of a stored tensor; `byteOffset` counts from the file's first byte. */
export interface TensorInfo {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** The content of a header. The tensors are in the order of their bytes. */
export interface Header {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The longest header that the format's own implementation accepts, in bytes. */
const LONGEST_HEADER = 100_000_000;

/** The size of the header's length field, which precedes the header. */
export const LENGTH_BYTES = 8;

const METADATA = '__metadata__';

const REMEDY = 'The file is damaged: download or save it again.';

/**
 * Reads the header's length from a file's first bytes.
 *
 * @param start the first 8 bytes, or fewer when the file is shorter
 * @param fileBytes the size of the file
 * @throws CheckpointError when the length is invalid or larger than the file
 */
export function parseHeaderLength(path: string, start: Uint8Array, fileBytes: number): number {
  if (start.byteLength < LENGTH_BYTES) {
    throw new CheckpointError(
      `${path} is not a safetensors file: it has ${count(fileBytes, 'byte')}, expected at least ${LENGTH_BYTES}. ${REMEDY}`,
    );
  }
  refuseGitLfsPointer(path, start);
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  if (length > LONGEST_HEADER) {
    throw new CheckpointError(
      `${path} is not a safetensors file: its first 8 bytes announce a header of ${length} bytes, expected at most ${LONGEST_HEADER}. Check that it is the right file.`,
    );
  }
  if (Number(length) > fileBytes - LENGTH_BYTES) {
    throw new CheckpointError(
      `${path} ends inside its header: that should have ${length} bytes, and ${fileBytes - LENGTH_BYTES} follow. ${REMEDY}`,
    );
  }
  return Number(length);
}

/**
 * Reads and checks a header.
 *
 * @param bytes the header without its length field
 * @param fileBytes the size of the whole file
 * @throws CheckpointError that names the file and the tensor
 */
export function parseHeader(path: string, bytes: Uint8Array, fileBytes: number): Header {
  const dataStart = LENGTH_BYTES + bytes.byteLength;
  const header = parseJson(path, bytes);
  const tensors: [string, TensorInfo][] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name !== METADATA) tensors.push([name, checkEntry(path, name, entry, dataStart)]);
  }
  // A tensor without elements has the offset of the next one, and must precede it.
  tensors.sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkCoverage(path, tensors, dataStart, fileBytes);
  return { tensors: new Map(tensors), metadata: checkMetadata(path, header[METADATA]) };
}

/**
 * The bytes of a file up to its first tensor: the header's length and the header, padded to a multiple of 8.
 *
 * @param tensors in the order of their bytes
 * @throws CheckpointError when the header would be longer than any reader accepts
 */
export function encodeHeader(
  path: string,
  tensors: Iterable<{ readonly name: string; readonly dtype: Dtype; readonly shape: readonly number[] }>,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  // The JSON is joined by hand, since an object would put names that look like numbers first.
  const members: string[] = [];
  const metadataEntries = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  if (metadataEntries.length > 0) {
    members.push(`"${METADATA}":${JSON.stringify(Object.fromEntries(metadataEntries))}`);
  }
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    if (name === METADATA) {
      throw new CheckpointError(
        `${path}: no tensor may be called ${METADATA}, which the format reserves. Rename it.`,
      );
    }
    const begin = end;
    end += byteLengthOf(dtype, shape)!;
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  if (length > LONGEST_HEADER) {
    throw new CheckpointError(
      `${path} would have a header of ${length} bytes, but readers accept at most ${LONGEST_HEADER}. Store fewer tensors in one file.`,
    );
  }
  const bytes = new Uint8Array(LENGTH_BYTES + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, LENGTH_BYTES);
  return bytes;
}

/** The entry of a tensor. Throws CheckpointError when `path` has no tensor of that name. */
export function requireTensor<T>(path: string, tensors: ReadonlyMap<string, T>, name: string): T {
  const info = tensors.get(name);
  if (info !== undefined) return info;
  const some = [...tensors.keys()].slice(0, 3).map(quote).join(', ');
  throw new CheckpointError(
    `${path} has no tensor ${quote(name)} among its ${tensors.size}${some && ` (${some}, ...)`}. Check that the file belongs to the model.`,
  );
}

/** The size of a tensor in bytes; undefined when the shape is invalid or too large to count. */
export function byteLengthOf(dtype: Dtype, shape: readonly unknown[]): number | undefined {
  let bytes: number = arrayTypes[dtype].BYTES_PER_ELEMENT;
  for (const size of shape) {
    if (!isCount(size)) return undefined;
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) return undefined;
  }
  return bytes;
}

function parseJson(path: string, bytes: Uint8Array): Record<string, unknown> {
  const fail = (problem: string) =>
    new CheckpointError(`${path} has a header that cannot be used: ${problem}. ${REMEDY}`);
  if (bytes[0] !== '{'.charCodeAt(0)) throw fail('it does not begin with "{"');
  try {
    return parseStrictJson(bytes, 3) as Record<string, unknown>;
  } catch (error) {
    throw fail((error as SyntaxError).message);
  }
}

function checkEntry(path: string, name: string, entry: unknown, dataStart: number): TensorInfo {
  const fail = (problem: string, remedy = REMEDY) =>
    new CheckpointError(`${path}: tensor ${quote(name)} ${problem}. ${remedy}`);
  if (!isObject(entry)) throw fail('is not described by an object with dtype, shape and data_offsets');

  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !isDtype(dtype)) {
    throw fail(
      `has the dtype ${quote(dtype)}, expected one of ${Object.keys(arrayTypes).join(', ')}`,
      'Convert the checkpoint to one of these.',
    );
  }
  const expected = Array.isArray(shape) ? byteLengthOf(dtype, shape) : undefined;
  if (expected === undefined) {
    throw fail(`has the shape ${quote(shape)}, expected a list of whole numbers with a countable product`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw fail(`has the data_offsets ${quote(offsets)}, expected two whole numbers`);
  }
  const [begin, end] = offsets as [number, number];
  if (end - begin !== expected) {
    throw fail(
      `has ${expected} bytes by its shape ${quote(shape)} in ${dtype}, and ${end - begin} by its data_offsets ${quote(offsets)}`,
    );
  }
  return { dtype, shape: shape as number[], byteOffset: dataStart + begin, byteLength: expected };
}

/** Throws unless the tensors, in the order of their bytes, cover the file from `dataStart` to its end. */
function checkCoverage(
  path: string,
  tensors: readonly (readonly [string, TensorInfo])[],
  dataStart: number,
  fileBytes: number,
): void {
  let covered = dataStart;
  let before = 'the header';
  for (const [name, { byteOffset, byteLength }] of tensors) {
    if (byteOffset !== covered) {
      const fault =
        byteOffset < covered
          ? `overlaps ${before} by ${count(covered - byteOffset, 'byte')}`
          : `leaves a hole of ${count(byteOffset - covered, 'byte')} after ${before}`;
      throw new CheckpointError(`${path}: tensor ${quote(name)} ${fault}. ${REMEDY}`);
    }
    covered += byteLength;
    before = `tensor ${quote(name)}`;
    if (covered > fileBytes) {
      throw new CheckpointError(
        `${path} is truncated: ${before} should end at byte ${covered}, and the file has ${fileBytes}. Download or save it again.`,
      );
    }
  }
  if (covered < fileBytes) {
    throw new CheckpointError(
      `${path} has ${count(fileBytes - covered, 'byte')} after ${before} that belong to no tensor. ${REMEDY}`,
    );
  }
}

function checkMetadata(path: string, metadata: unknown): Record<string, string> {
  if (metadata === undefined) return {};
  if (isObject(metadata) && Object.values(metadata).every((value) => typeof value === 'string')) {
    return metadata as Record<string, string>;
  }
  throw new CheckpointError(`${path}: ${METADATA} is not an object of strings. ${REMEDY}`);
}

function isDtype(name: string): name is Dtype {
  return Object.hasOwn(arrayTypes, name);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}
