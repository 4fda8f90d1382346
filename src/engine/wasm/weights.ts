/** Weights in the shared memory, read straight from their files; programs that use the same ones share them. */
import { type FileHandle, open } from 'node:fs/promises';
import { DeviceError } from '../../errors.js';
import { DTYPES, Element, float16ToFloat32, type HeldWeight } from '../../graph/index.js';
import { type HostTensor, isQuantized, isStored, type StoredPart, type Weight } from '../tensors.js';
import type { SharedMemory } from './memory.js';

/** A weight, and where its parts lie. */
export interface PlacedWeight {
  readonly held: HeldWeight;
  readonly at: Readonly<Partial<Record<'values' | 'codes' | 'scales', number>>>;
}

export class Weights {
  /** By the object that gives them, with how many programs use them. */
  private readonly placed = new Map<Weight, { weight: PlacedWeight; users: number }>();

  constructor(private readonly memory: SharedMemory) {}

  /** Loads what is not there yet. Throws `DeviceError` for a file that is missing or too short, and where there is no room. */
  async load(weights: ReadonlyMap<string, Weight>): Promise<Map<string, PlacedWeight>> {
    const loaded: Weight[] = [];
    const files = new Files();
    try {
      const all = new Map<string, PlacedWeight>();
      for (const [name, weight] of weights) {
        let entry = this.placed.get(weight);
        if (!entry) {
          entry = { weight: await this.place(weight, files), users: 0 };
          this.placed.set(weight, entry);
        }
        entry.users++;
        loaded.push(weight);
        all.set(name, entry.weight);
      }
      return all;
    } catch (error) {
      this.release(loaded);
      throw error;
    } finally {
      await files.close();
    }
  }

  /** Lets go of weights that a program used. */
  release(weights: Iterable<Weight>): void {
    for (const weight of weights) {
      const entry = this.placed.get(weight);
      if (!entry || --entry.users > 0) continue;
      this.placed.delete(weight);
      for (const address of Object.values(entry.weight.at)) this.memory.release(address);
    }
  }

  private async place(weight: Weight, files: Files): Promise<PlacedWeight> {
    if (isQuantized(weight)) {
      const { bits, block } = weight;
      const codes = await this.fill([weight.codes], files, false);
      try {
        const scales = await this.fill([weight.scales], files, true);
        return { held: { kind: 'packed', bits, block }, at: { codes, scales } };
      } catch (error) {
        this.memory.release(codes);
        throw error;
      }
    }
    if (!isStored(weight)) {
      const values = await this.fill([weight.data], files, false);
      return { held: { kind: 'numbers', element: Element[weight.dtype] }, at: { values } };
    }
    // bfloat16 is kept as it is: what computes with it widens it.
    const isHalf = weight.parts.every(({ dtype }) => dtype === 'bfloat16');
    const values = await this.fill(weight.parts, files, !isHalf);
    return {
      held: { kind: 'numbers', element: isHalf ? Element.bfloat16 : Element.float32 },
      at: { values },
    };
  }

  /** Memory with these parts one after the other, widened to float32 where asked. */
  private async fill(
    parts: readonly (StoredPart | HostTensor['data'])[],
    files: Files,
    isFloat32: boolean,
  ): Promise<number> {
    const bytesOf = (part: StoredPart | HostTensor['data']): number =>
      isFloat32 && 'path' in part ? (part.byteLength / DTYPES[part.dtype].bytes) * 4 : part.byteLength;
    const address = this.memory.allocate(parts.reduce((sum, part) => sum + bytesOf(part), 0));
    try {
      let at = address;
      for (const part of parts) {
        const size = bytesOf(part);
        if (!('path' in part)) {
          this.memory.bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at);
        } else if (size === part.byteLength) {
          await files.read(part, this.memory.bytes.subarray(at, at + size));
        } else {
          const stored = new Uint8Array(part.byteLength);
          await files.read(part, stored);
          new Float32Array(this.memory.memory.buffer, at, size / 4).set(widened(stored, part.dtype));
        }
        at += size;
      }
    } catch (error) {
      this.memory.release(address);
      throw error;
    }
    return address;
  }
}

function widened(bytes: Uint8Array, dtype: StoredPart['dtype']): Float32Array {
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  if (dtype === 'float16') return float16ToFloat32(halves);
  const widened = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) widened[i] = halves[i]! << 16;
  return new Float32Array(widened.buffer);
}

/** Files that are open while weights are read. */
class Files {
  private readonly handles = new Map<string, FileHandle>();

  async read({ path, byteOffset, byteLength }: StoredPart, to: Uint8Array): Promise<void> {
    try {
      let handle = this.handles.get(path);
      if (!handle) {
        handle = await open(path, 'r');
        this.handles.set(path, handle);
      }
      for (let done = 0; done < byteLength; ) {
        const length = Math.min(byteLength - done, 2 ** 30);
        const { bytesRead } = await handle.read(to, done, length, byteOffset + done);
        if (bytesRead === 0) {
          const { size } = await handle.stat();
          throw new DeviceError(
            `${path} has ${size} bytes, but its weights go to byte ${byteOffset + byteLength}: it was cut off. Download or save it again.`,
          );
        }
        done += bytesRead;
      }
    } catch (error) {
      if (error instanceof DeviceError) throw error;
      throw new DeviceError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.handles.values()].map((handle) => handle.close()));
  }
}
