/**
 * How weights reach ONNX Runtime. Those in files are mapped: the model names each piece's file, offset and length, so that
 * nothing is read twice or held in JavaScript's memory. ONNX Runtime follows such names only below a folder that it is
 * told, and through no links: it is told the root, and gets the files' real paths. Where pieces cannot be mapped (on
 * several drives, or not on a multiple of their elements' size) all bytes are read and handed over.
 */
import { open, realpath, stat } from 'node:fs/promises';
import { parse } from 'node:path';
import { DeviceError } from '../errors.js';
import type { WeightPiece, WeightSource, WeightType } from '../graph/index.js';
import {
  isQuantized,
  isStored,
  STORED_BYTES,
  type StoredPart,
  type TensorData,
  type Weight,
} from './device.js';

export interface WeightPlan {
  readonly sources: ReadonlyMap<string, WeightSource>;
  /** The folder that mapped files are named from. */
  readonly root?: string;
  /** What is handed over, by location. */
  readonly handedOver: readonly { path: string; data: Uint8Array }[];
}

type Weights = ReadonlyMap<string, Weight>;

/** A part of a weight: in memory, or in a file. */
type Part = TensorData | StoredPart;

/** Decides how these weights are loaded. Throws `DeviceError` for a file that is missing or too short. */
export async function planWeights(weights: Weights): Promise<WeightPlan> {
  const parts = [...weights.values()].flatMap(partsOf).filter((part) => 'path' in part);
  const paths = await realPaths(parts);
  const roots = new Set([...paths.values()].map((path) => parse(path).root));
  const [root] = roots;
  const aligned = parts.every(({ byteOffset, dtype }) => byteOffset % STORED_BYTES[dtype] === 0);
  if (root === undefined || roots.size > 1 || !aligned || embeddedBytes(weights) > MOST_EMBEDDED) {
    return handedOver(weights);
  }
  return mapped(weights, root, paths);
}

/** An encoded model, and what it embeds, must stay below 2 GiB. */
const MOST_EMBEDDED = 2 ** 30;

function embeddedBytes(weights: Weights): number {
  const parts = [...weights.values()].flatMap(partsOf);
  return parts.reduce((sum, part) => sum + ('path' in part ? 0 : part.byteLength), 0);
}

function partsOf(weight: Weight): readonly Part[] {
  if (isStored(weight)) return weight.parts;
  return isQuantized(weight) ? [weight.codes, weight.scales] : [weight.data];
}

/** A weight with each of its parts where `place` says; it gets a name for each. */
async function sourceOf(
  name: string,
  weight: Weight,
  place: (name: string, type: WeightType, part: Part) => WeightPiece | Promise<WeightPiece>,
): Promise<WeightSource> {
  if (isQuantized(weight)) {
    const { bits, block, codes, scales } = weight;
    return {
      bits,
      block,
      codes: await place(`${name}/codes`, 'uint8', codes),
      scales: await place(`${name}/scales`, 'path' in scales ? scales.dtype : 'float32', scales),
    };
  }
  if (!isStored(weight)) return [await place(name, weight.dtype, weight.data)];
  return Promise.all(weight.parts.map(async (part, i) => place(`${name}/${i}`, part.dtype, part)));
}

/** The real paths of the files that hold these parts, which must be as long as the parts say. */
async function realPaths(parts: readonly StoredPart[]): Promise<Map<string, string>> {
  const ends = new Map<string, number>();
  for (const { path, byteOffset, byteLength } of parts) {
    ends.set(path, Math.max(ends.get(path) ?? 0, byteOffset + byteLength));
  }
  const paths = new Map<string, string>();
  for (const [path, end] of ends) {
    const [real, { size }] = await reading(path, () => Promise.all([realpath(path), stat(path)]));
    if (size < end) {
      throw new DeviceError(
        `${path} has ${size} bytes, but its weights go to byte ${end}: it was cut off. Download or save it again.`,
      );
    }
    paths.set(path, real);
  }
  return paths;
}

async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new DeviceError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

async function mapped(
  weights: Weights,
  root: string,
  paths: ReadonlyMap<string, string>,
): Promise<WeightPlan> {
  const place = (_: string, type: WeightType, part: Part): WeightPiece => {
    if (!('path' in part)) return { type, bytes: bytesOf(part) };
    const { path, byteOffset, byteLength } = part;
    return { type, location: paths.get(path)!.slice(root.length), byteOffset, byteLength };
  };
  return { sources: await placed(weights, place), root, handedOver: [] };
}

async function handedOver(weights: Weights): Promise<WeightPlan> {
  const given: { path: string; data: Uint8Array }[] = [];
  const place = async (name: string, type: WeightType, part: Part): Promise<WeightPiece> => {
    const data = 'path' in part ? await readPart(part) : bytesOf(part);
    given.push({ path: name, data });
    return { type, location: name, byteLength: data.byteLength };
  };
  return { sources: await placed(weights, place), handedOver: given };
}

async function placed(
  weights: Weights,
  place: (name: string, type: WeightType, part: Part) => WeightPiece | Promise<WeightPiece>,
): Promise<Map<string, WeightSource>> {
  const sources = new Map<string, WeightSource>();
  for (const [name, weight] of weights) sources.set(name, await sourceOf(name, weight, place));
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

function bytesOf(data: TensorData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
