/** Reads weights from their files. */
import { type OpenedFile, openFile } from '#platform';
import { DeviceError } from '../errors.js';
import { float16ToFloat32 } from '../graph/index.js';
import { reasonOf } from '../platform/unreadable.js';
import type { StoredPart } from './tensors.js';

/** 16-bit floats as float32. */
export function widened(bytes: Uint8Array, dtype: StoredPart['dtype']): Float32Array {
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  if (dtype === 'float16') return float16ToFloat32(halves);
  const widened = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) widened[i] = halves[i]! << 16;
  return new Float32Array(widened.buffer);
}

/** Files that are open while weights are read. */
export class WeightFiles {
  private readonly opened = new Map<string, OpenedFile>();

  async read({ path, byteOffset, byteLength }: StoredPart, to: Uint8Array): Promise<void> {
    try {
      let file = this.opened.get(path);
      if (!file) {
        file = await openFile(path);
        this.opened.set(path, file);
      }
      const done = await file.read(to.subarray(0, byteLength), byteOffset);
      if (done < byteLength) throw new Error(`it ends at byte ${byteOffset + done}`);
    } catch (error) {
      throw new DeviceError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.opened.values()].map((file) => file.close()));
  }
}
