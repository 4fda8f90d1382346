/**
 * What stands at the beginning of a GGUF file, llama.cpp's format: metadata by keys, which say what a model is and how it
 * reads text, and where each tensor lies. Models, their texts and their weights are all read from this one header, so it is
 * read once as long as the file stays what it is.
 */
import { statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { GGMLQuantizationType, gguf, parseGgufShardFilename } from '@huggingface/gguf';
import { CheckpointError } from './errors.js';

export type GgufMetadata = Readonly<Record<string, unknown>>;

export interface GgufTensor {
  /** The file that holds it. */
  readonly path: string;
  readonly byteOffset: number;
  /** The name of its format, such as `F16` or `Q4_K`. */
  readonly type: string;
  /** Rows first, as everywhere here; the file has the columns first. */
  readonly shape: readonly number[];
}

export interface Gguf {
  readonly path: string;
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** Whether a path is that of a GGUF file. */
export function isGguf(path: string): boolean {
  return /\.gguf$/i.test(path) && (statSync(path, { throwIfNoEntry: false })?.isFile() ?? false);
}

const headers = new Map<string, { readonly version: string; readonly header: Promise<Gguf> }>();

/** Reads the header of a GGUF file, and those of its other parts. Throws `CheckpointError` for one that is damaged or missing. */
export async function readGguf(path: string): Promise<Gguf> {
  const { size, mtimeMs } = await stat(path).catch((error: Error) => {
    throw new CheckpointError(`${path} cannot be read: ${error.message}. Check the path.`, { cause: error });
  });
  const version = `${size} ${mtimeMs}`;
  const known = headers.get(path);
  if (known?.version === version) return known.header;
  const header = readParts(path);
  headers.set(path, { version, header });
  header.catch(() => headers.delete(path));
  return header;
}

async function readParts(path: string): Promise<Gguf> {
  const split = parseGgufShardFilename(path);
  if (!split) return readOne(path);
  const parts = await Promise.all(
    Array.from({ length: Number(split.total) }, (_, i) =>
      readOne(`${split.prefix}-${String(i + 1).padStart(5, '0')}-of-${split.total}.gguf`),
    ),
  );
  const tensors = new Map(parts.flatMap((part) => [...part.tensors]));
  return { path, metadata: parts[0]!.metadata, tensors };
}

async function readOne(path: string): Promise<Gguf> {
  const { metadata, tensorInfos, tensorDataOffset } = await gguf(path, { allowLocalFile: true }).catch(
    (error: Error) => {
      throw new CheckpointError(
        `${path} is not a GGUF file that can be read: ${error.message}. Copy or download it again.`,
        { cause: error },
      );
    },
  );
  const tensors = tensorInfos.map(({ name, shape, dtype, offset }): [string, GgufTensor] => [
    name,
    {
      path,
      byteOffset: Number(tensorDataOffset + offset),
      type: GGMLQuantizationType[dtype] ?? `type ${dtype}`,
      shape: shape.map(Number).reverse(),
    },
  ]);
  return { path, metadata: metadata as unknown as GgufMetadata, tensors: new Map(tensors) };
}
