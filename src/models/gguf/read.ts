/** Reads tensors of a GGUF file, as bytes and as float32. */
import { openFile } from '#platform';
import { ggufRowBytes, widenGguf } from '../../checkpoint/index.js';
import { CheckpointError } from '../../errors.js';
import type { Gguf, GgufTensor } from '../../gguf.js';

/** The bytes of a tensor. Throws `CheckpointError` for an unsupported format, and for a truncated file. */
export async function readGgufBytes(
  { path, byteOffset, type, shape }: GgufTensor,
  name: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
  const bytes = new Uint8Array(ggufRowBytes(type, shape.at(-1) ?? 1, `${path}: ${name}`) * rows);
  const file = await openFile(path);
  try {
    if ((await file.read(bytes, byteOffset)) < bytes.length) {
      throw new CheckpointError(`${path} ends within ${name}: it was cut off. Download it again.`);
    }
  } finally {
    await file.close();
  }
  return bytes;
}

/** A tensor as float32. The file must contain it. */
export async function readGgufTensor(gguf: Gguf, name: string): Promise<Float32Array> {
  const tensor = gguf.tensors.get(name)!;
  return widenGguf(tensor.type, await readGgufBytes(tensor, name));
}
