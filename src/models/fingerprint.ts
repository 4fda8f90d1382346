/**
 * Identifies models, since a state is only valid for the model that computed it.
 *
 * The fingerprint is a hash of the config and of the weights: their names, shapes, dtypes, and a sample of each tensor's bytes at fixed
 * offsets. Hashing all bytes would take seconds for each gigabyte at each load. Training, merging and converting change most elements of most
 * tensors, and thus the samples; only the manual change of single elements goes unnoticed. The location of the bytes does not matter: a
 * folder may be moved, and its weights split into other files.
 */
import { type Digest, type OpenedFile, openFile, sha256 } from '#platform';
import {
  type HostTensor,
  isQuantized,
  isStored,
  type QuantizedTensor,
  type StoredPart,
  type Weight,
} from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';
import { adapterNames } from './lora.js';
import type { Model } from './model.js';

/** The identity of a model. */
export interface Fingerprint {
  /** A SHA-256 in hexadecimal. */
  readonly hash: string;
  /** A description of the quantization: 'none', or for example '4 bits in blocks of 32, with a cache in int8'. */
  readonly quantization: string;
}

/** The number and size of a tensor's samples, which are spread evenly from its first byte to its last. */
const SAMPLES = 16;
const SAMPLE_BYTES = 512;

/** The fingerprint of a model with these weights. Throws `CheckpointError` for a file that cannot be read. */
export async function fingerprintOf(
  model: Model,
  weights: ReadonlyMap<string, Weight>,
): Promise<Fingerprint> {
  const hash = sha256();
  const say = (...facts: unknown[]): void => void hash.update(`${JSON.stringify(facts)}\n`);
  // The config's quantization is omitted, since that of the weights is included, which may also be quantized while loading.
  const { quantization_config: _, ...config } = model.json;
  say('config', sorted(config));
  const files = await Files.open(weights.values());
  try {
    for (const name of [...weights.keys()].sort()) {
      const weight = weights.get(name)!;
      say(name, weight.dims, adapterOf(model, name));
      hashWeight(hash, say, weight, files);
    }
  } finally {
    await files.close();
  }
  return { hash: hash.digest('hex'), quantization: quantizationOf(model, weights.values()) };
}

function hashWeight(hash: Digest, say: (...facts: unknown[]) => void, weight: Weight, files: Files): void {
  if (isQuantized(weight)) {
    say('quantized', weight.bits, weight.block);
    for (const values of [weight.codes, weight.scales]) hashValues(hash, say, values, files);
  } else if (isStored(weight)) {
    for (const part of weight.parts) hashValues(hash, say, part, files);
  } else {
    hashValues(hash, say, weight.data, files);
  }
}

function hashValues(
  hash: Digest,
  say: (...facts: unknown[]) => void,
  values: HostTensor['data'] | StoredPart,
  files: Files,
): void {
  say('path' in values ? values.dtype : dtypeOf(values), values.byteLength);
  for (const [start, length] of samplesOf(values.byteLength)) {
    if ('path' in values) hash.update(files.read(values.path, values.byteOffset + start, length));
    else hash.update(new Uint8Array(values.buffer, values.byteOffset + start, length));
  }
}

/** The dtype of an array, by its name in files. */
function dtypeOf(values: HostTensor['data']): string {
  return values.constructor.name.replace('Array', '').toLowerCase();
}

/** The offsets and the length of the samples of this many bytes. */
function samplesOf(byteLength: number): [start: number, length: number][] {
  if (byteLength <= SAMPLES * SAMPLE_BYTES) return [[0, byteLength]];
  const last = byteLength - SAMPLE_BYTES;
  return Array.from({ length: SAMPLES }, (_, i) => [Math.floor((i * last) / (SAMPLES - 1)), SAMPLE_BYTES]);
}

/**
 * Files that are read in small pieces, synchronously: a device has just read them, so that a few thousand pieces from the system's cache take
 * milliseconds, less than awaiting each of them.
 */
class Files {
  private constructor(private readonly opened: ReadonlyMap<string, OpenedFile>) {}

  static async open(weights: Iterable<Weight>): Promise<Files> {
    const opened = new Map<string, OpenedFile>();
    const files = new Files(opened);
    for (const { path } of [...weights].flatMap(storedParts)) {
      if (opened.has(path)) continue;
      try {
        opened.set(path, await openFile(path));
      } catch (error) {
        await files.close();
        throw unreadable(path, error);
      }
    }
    return files;
  }

  read(path: string, start: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    try {
      const done = this.opened.get(path)!.readNow(bytes, start);
      if (done < length) throw new Error(`it ends at byte ${start + done}`);
    } catch (error) {
      throw unreadable(path, error);
    }
    return bytes;
  }

  async close(): Promise<void> {
    await Promise.all([...this.opened.values()].map((file) => file.close()));
  }
}

function storedParts(weight: Weight): readonly StoredPart[] {
  if (isStored(weight)) return weight.parts;
  if (!isQuantized(weight)) return [];
  return [weight.codes, weight.scales].filter((part) => 'path' in part);
}

function unreadable(path: string, error: unknown): CheckpointError {
  return new CheckpointError(`${path} cannot be read: ${reasonOf(error)}. Check the file.`, {
    cause: error,
  });
}

/** The settings of an adapter, besides its weights. */
function adapterOf(model: Model, name: string): unknown {
  const { a } = adapterNames('');
  return name.endsWith(a) ? model.adapters?.(name.slice(0, -a.length)) : undefined;
}

function quantizationOf({ cache }: Model, weights: Iterable<Weight>): string {
  const kinds = new Set(
    [...weights]
      .filter(isQuantized)
      .map(({ bits, block }: QuantizedTensor) => `${bits} bits in blocks of ${block}`),
  );
  const words = kinds.size === 0 ? 'none' : [...kinds].sort().join(' and ');
  return cache ? `${words}, with a cache in ${cache}` : words;
}

/** The same value with sorted keys, since the order of a config's keys does not matter. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, child]) => [key, sorted(child)]));
}
