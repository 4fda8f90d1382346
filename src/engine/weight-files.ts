/** Reads weights from their files. */
import { type FileHandle, open } from 'node:fs/promises';
import { DeviceError } from '../errors.js';
import { float16ToFloat32 } from '../graph/index.js';
import type { StoredPart } from './tensors.js';

/** Halves of a file as float32. */
export function widened(bytes: Uint8Array, dtype: StoredPart['dtype']): Float32Array {
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  if (dtype === 'float16') return float16ToFloat32(halves);
  const widened = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) widened[i] = halves[i]! << 16;
  return new Float32Array(widened.buffer);
}

/** Files that are open while weights are read. */
export class WeightFiles {
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
        if (bytesRead === 0) throw new Error(`it ends at byte ${byteOffset + done}`);
        done += bytesRead;
      }
    } catch (error) {
      throw new DeviceError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.handles.values()].map((handle) => handle.close()));
  }
}
