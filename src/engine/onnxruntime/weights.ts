/**
 * How weights are passed to ONNX Runtime. Weights in files are memory-mapped as external data: the model names each piece's file, offset
 * and length, so that nothing is read twice or copied into JavaScript's memory. ONNX Runtime accepts external data only below a folder
 * that it is told, and not through links, so it gets the root folder and real paths. If pieces cannot be mapped (files on several drives,
 * or offsets that are no multiple of the element size), their bytes are read and passed in memory.
 *
 * For prefill, 4-bit matrices are also widened to 8-bit integers, which doubles its speed. They are computed when a model is loaded, in
 * memory or, if the disk has room, in a temporary file that is mapped. Only a share of the matrices is widened (`INTEGERS_PER_CODE`).
 */
import { randomUUID } from 'node:crypto';
import { type FileHandle, open, realpath, rm, statfs } from 'node:fs/promises';
import { tmpdir, totalmem } from 'node:os';
import { join, parse } from 'node:path';
import { DeviceError } from '../../errors.js';
import {
  asMatrix,
  DTYPES,
  type DType,
  type QuantizedSource,
  type WeightPiece,
  type WeightSource,
} from '../../graph/index.js';
import { reasonOf } from '../../platform/unreadable.js';
import {
  isQuantized,
  isStored,
  type QuantizedTensor,
  type StoredPart,
  type TensorData,
  type Weight,
} from '../tensors.js';
import { type Integers, integersOf } from './integers.js';
import { release } from './release.js';

/** Where ONNX Runtime takes each weight from: a file that it maps, or bytes in memory. */
export interface WeightPlan {
  readonly sources: ReadonlyMap<string, WeightSource>;
  /** The folder that the paths of mapped files are relative to. */
  readonly root?: string;
  /** Weights that are passed in memory, by the location that the model names. */
  readonly handedOver: readonly { path: string; data: Uint8Array }[];
  /** Computes the widened matrices that the encoding has asked for. Call it after encoding the model. */
  prepare(): Promise<void>;
  /** Removes the temporary file. Call it when the model is loaded, or loading has failed. */
  release(): Promise<void>;
}

type Weights = ReadonlyMap<string, Weight>;

/** A part of a weight: in memory, or in a file. */
type WeightData = TensorData | StoredPart;

/** Plans how weights are passed. Throws `DeviceError` for a file that cannot be read. */
export async function planWeights(weights: Weights): Promise<WeightPlan> {
  const parts = [...weights.values()].flatMap(partsOf).filter((part) => 'path' in part);
  const paths = await realPaths(parts);
  const roots = new Set([...paths.values()].map((path) => parse(path).root));
  const [root] = roots;
  const aligned = parts.every(({ byteOffset, dtype }) => byteOffset % DTYPES[dtype].bytes === 0);
  if (root === undefined || roots.size > 1 || !aligned || embeddedBytes(weights) > MOST_EMBEDDED) {
    return handedOver(weights);
  }
  return mapped(weights, root, paths);
}

/** Bytes of weights that may be embedded: an encoded model must stay below 2 GiB. */
const MOST_EMBEDDED = 2 ** 30;

function embeddedBytes(weights: Weights): number {
  const parts = [...weights.values()].flatMap(partsOf);
  return parts.reduce((sum, part) => sum + ('path' in part ? 0 : part.byteLength), 0);
}

function partsOf(weight: Weight): readonly WeightData[] {
  if (isStored(weight)) return weight.parts;
  return isQuantized(weight) ? [weight.codes, weight.scales] : [weight.data];
}

/** A weight whose parts are placed by `place`, which is given a name for each part. */
async function sourceOf(
  name: string,
  weight: Weight,
  place: (name: string, type: DType, part: WeightData) => WeightPiece | Promise<WeightPiece>,
  ask: Ask | undefined,
): Promise<WeightSource> {
  if (isQuantized(weight)) {
    const { bits, block, codes, scales } = weight;
    return {
      ...(ask && hasIntegers(weight) && { integers: () => ask(name, weight) }),
      bits,
      block,
      codes: await place(`${name}/codes`, 'uint8', codes),
      scales: await place(`${name}/scales`, 'path' in scales ? scales.dtype : 'float32', scales),
    };
  }
  if (!isStored(weight)) return [await place(name, weight.dtype, weight.data)];
  return Promise.all(weight.parts.map(async (part, i) => place(`${name}/${i}`, part.dtype, part)));
}

type Ask = (name: string, weight: QuantizedTensor) => ReturnType<NonNullable<QuantizedSource['integers']>>;

function hasIntegers(weight: Weight): weight is QuantizedTensor {
  if (!isQuantized(weight)) return false;
  const { bits, block, dims, scales } = weight;
  const isPlain = !('path' in scales) || scales.dtype === 'float32';
  return bits === 4 && dims.length === 2 && dims[1]! % block === 0 && isPlain;
}

/** The most bytes that widened matrices may take. */
function roomForIntegers(weights: Weights): number {
  const codes = [...weights.values()].filter(hasIntegers).reduce((sum, { dims }) => {
    const [rows, columns] = asMatrix(dims);
    return sum + (rows * columns) / 2;
  }, 0);
  return Math.min(codes * INTEGERS_PER_CODE, totalmem() * MAX_SHARE);
}

/**
 * Bytes of widened matrices for each byte of 4-bit codes; 2 would widen all of them. That would prefill a quarter faster, and take more
 * memory than llama.cpp (`npm run bench -- runtime`).
 */
const INTEGERS_PER_CODE = 1.25;

/** The share of the machine's memory, or of the disk's free space, that widened matrices may take. */
const MAX_SHARE = 1 / 4;

/** Grants a fixed share of the requests to widen a matrix, evenly over the model, while there is room. */
function rationed(ask: Ask, room: number): Ask {
  let allowed = 0;
  let taken = 0;
  return (name, weight) => {
    const [rows, columns] = asMatrix(weight.dims);
    allowed += INTEGERS_PER_CODE * ((rows * columns) / 2);
    if (taken >= Math.min(allowed, room)) return undefined;
    taken += rows * columns;
    return ask(name, weight);
  };
}

async function integersFrom({ codes, scales, dims, block }: QuantizedTensor): Promise<Integers> {
  const bytes = 'path' in codes ? await readPart(codes) : codes;
  const floats = 'path' in scales ? new Float32Array((await readPart(scales)).buffer) : scales;
  const integers = integersOf(bytes, floats, asMatrix(dims), block);
  if ('path' in codes) release(bytes);
  if ('path' in scales) release(floats);
  return integers;
}

/** The real paths of the files that hold these parts. */
async function realPaths(parts: readonly StoredPart[]): Promise<Map<string, string>> {
  const paths = new Map<string, string>();
  for (const path of new Set(parts.map((part) => part.path))) {
    paths.set(path, await reading(path, () => realpath(path)));
  }
  return paths;
}

async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new DeviceError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

async function mapped(
  weights: Weights,
  root: string,
  paths: ReadonlyMap<string, string>,
): Promise<WeightPlan> {
  const place = (_: string, type: DType, part: WeightData): WeightPiece => {
    if (!('path' in part)) return { type, bytes: bytesOf(part) };
    const { path, byteOffset, byteLength } = part;
    return { type, location: paths.get(path)!.slice(root.length), byteOffset, byteLength };
  };
  const room = roomForIntegers(weights);
  const store = await IntegerFile.plan(root, room);
  const ask = store && rationed((_: string, weight: QuantizedTensor) => store.ask(weight), room);
  return {
    sources: await placed(weights, place, ask),
    root,
    handedOver: [],
    prepare: async () => store?.write(),
    release: async () => store?.remove(),
  };
}

/** A temporary file of widened matrices, one after the other: int8 values, then float32 scales. */
class IntegerFile {
  private readonly asked: { weight: QuantizedTensor; values: number; scales: number }[] = [];
  private size = 0;

  private constructor(
    private readonly path: string,
    private readonly location: string,
  ) {}

  /** Undefined if the file would be too large, or the system cannot map it or cannot delete a mapped file. */
  static async plan(root: string, bytes: number): Promise<IntegerFile | undefined> {
    if (process.platform === 'win32' || bytes === 0) return undefined;
    const [folder, { bavail, bsize }] = await reading(`the folder ${tmpdir()}`, () =>
      Promise.all([realpath(tmpdir()), statfs(tmpdir())]),
    );
    if (bytes > bavail * bsize * MAX_SHARE) return undefined;
    const path = join(folder, `heddle-${randomUUID()}.integers`);
    return new IntegerFile(path, path.slice(root.length));
  }

  ask(weight: QuantizedTensor): ReturnType<Ask> {
    const [rows, columns] = asMatrix(weight.dims);
    const place = (type: 'int8' | 'float32', byteLength: number) => {
      const piece = { type, location: this.location, byteOffset: this.size, byteLength };
      this.size = Math.ceil((this.size + byteLength) / ALIGNMENT) * ALIGNMENT;
      return piece;
    };
    const [values, scales] = [place('int8', rows * columns), place('float32', 4 * rows)];
    this.asked.push({ weight, values: values.byteOffset, scales: scales.byteOffset });
    return { values, scales };
  }

  async write(): Promise<void> {
    if (this.asked.length === 0) return;
    try {
      const file = await open(this.path, 'wx', 0o600);
      try {
        for (const { weight, ...begins } of this.asked) {
          const { values, scales } = await integersFrom(weight);
          await writeWhole(file, bytesOf(values), begins.values);
          await writeWhole(file, bytesOf(scales), begins.scales);
          release(values);
        }
      } finally {
        await file.close();
      }
    } catch (error) {
      if (error instanceof DeviceError) throw error;
      throw new DeviceError(
        `${this.path} cannot be written: ${reasonOf(error)}. The weights need ${this.size} bytes there while they are loaded; TMPDIR names another folder.`,
        { cause: error },
      );
    }
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }
}

/** Alignment of mapped pieces, in bytes. */
const ALIGNMENT = 64;

async function writeWhole(file: FileHandle, bytes: Uint8Array, begin: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, undefined, begin + done);
    done += bytesWritten;
  }
}

async function handedOver(weights: Weights): Promise<WeightPlan> {
  const given: { path: string; data: Uint8Array }[] = [];
  const place = async (name: string, type: DType, part: WeightData): Promise<WeightPiece> => {
    const data = 'path' in part ? await readPart(part) : bytesOf(part);
    given.push({ path: name, data });
    return { type, location: name, byteLength: data.byteLength };
  };
  const asked: { name: string; weight: QuantizedTensor }[] = [];
  const ask: Ask = (name, weight) => {
    const [rows, columns] = asMatrix(weight.dims);
    asked.push({ name, weight });
    return {
      values: { type: 'int8', location: `${name}/integers`, byteLength: rows * columns },
      scales: { type: 'float32', location: `${name}/row_scales`, byteLength: 4 * rows },
    };
  };
  return {
    sources: await placed(weights, place, rationed(ask, roomForIntegers(weights))),
    handedOver: given,
    prepare: async () => {
      for (const { name, weight } of asked) {
        const { values, scales } = await integersFrom(weight);
        given.push({ path: `${name}/integers`, data: bytesOf(values) });
        given.push({ path: `${name}/row_scales`, data: bytesOf(scales) });
      }
    },
    release: async () => {},
  };
}

async function placed(
  weights: Weights,
  place: (name: string, type: DType, part: WeightData) => WeightPiece | Promise<WeightPiece>,
  ask: Ask | undefined,
): Promise<Map<string, WeightSource>> {
  const sources = new Map<string, WeightSource>();
  for (const [name, weight] of weights) sources.set(name, await sourceOf(name, weight, place, ask));
  return sources;
}

async function readPart({ path, byteOffset, byteLength }: StoredPart): Promise<Uint8Array> {
  return reading(path, async () => {
    const bytes = new Uint8Array(byteLength);
    const handle = await open(path, 'r');
    try {
      for (let done = 0; done < byteLength; ) {
        const length = Math.min(byteLength - done, 2 ** 30);
        const { bytesRead } = await handle.read(bytes, done, length, byteOffset + done);
        if (bytesRead === 0) throw new Error('it ends too early');
        done += bytesRead;
      }
    } finally {
      await handle.close();
    }
    return bytes;
  });
}

function bytesOf(data: TensorData | Int8Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
