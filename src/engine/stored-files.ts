/**
 * Detects weight files that change while a device reads them. They are read in pieces, long after their headers: if a file is replaced in
 * the meantime, as a training run does with its checkpoint, the model would mix two versions.
 */
import { type FileStats, statsOf } from '#platform';
import { DeviceError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';
import { isQuantized, isStored, type StoredPart, type Weight } from './tensors.js';

/** The files of a set of weights. */
export class StoredFiles {
  private constructor(private readonly versions: ReadonlyMap<string, string>) {}

  /** Throws `DeviceError` for a file that cannot be read, is too short, or has changed since its header was read. */
  static async open(weights: Iterable<Weight>): Promise<StoredFiles> {
    const versions = new Map<string, string>();
    for (const [path, parts] of byPath(weights)) {
      const { size, version } = await expectStats(path);
      const end = Math.max(...parts.map(({ byteOffset, byteLength }) => byteOffset + byteLength));
      if (size < end) {
        throw new DeviceError(
          `${path} has ${size} bytes, but its weights go to byte ${end}: it was cut off. Download or save it again.`,
        );
      }
      if (parts.some((part) => part.version !== undefined && part.version !== version)) throw changed(path);
      versions.set(path, version);
    }
    return new StoredFiles(versions);
  }

  /** Call it when everything is read. Throws `DeviceError` if a file has changed. */
  async expectUnchanged(): Promise<void> {
    for (const [path, version] of this.versions) {
      if ((await expectStats(path)).version !== version) throw changed(path);
    }
  }
}

function byPath(weights: Iterable<Weight>): Map<string, StoredPart[]> {
  const files = new Map<string, StoredPart[]>();
  for (const weight of weights) {
    for (const part of storedParts(weight)) {
      const parts = files.get(part.path);
      if (parts) parts.push(part);
      else files.set(part.path, [part]);
    }
  }
  return files;
}

function storedParts(weight: Weight): readonly StoredPart[] {
  if (isStored(weight)) return weight.parts;
  return isQuantized(weight) ? [weight.codes, weight.scales].filter((part) => 'path' in part) : [];
}

async function expectStats(path: string): Promise<FileStats> {
  try {
    return await statsOf(path);
  } catch (error) {
    throw new DeviceError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

function changed(path: string): DeviceError {
  return new DeviceError(`${path} was changed while it was being loaded: load the model again`);
}
