/**
 * What stands at the beginning of a GGUF file, llama.cpp's format: metadata by keys, which say what a model is and how it
 * reads text, and where each tensor lies. Models, their texts and their weights are all read from this one header, so it is
 * read once as long as the file stays what it is.
 */
import { GGMLQuantizationType, gguf, parseGgufShardFilename } from '@huggingface/gguf';
import { type OpenedFile, openFile, statsOf } from '#platform';
import { CheckpointError } from './errors.js';
import { reasonOf } from './platform/unreadable.js';

/** The metadata of a GGUF file by its keys, such as `general.architecture`. */
export type GgufMetadata = Readonly<Record<string, unknown>>;

/** Where a tensor stands in a GGUF file, and in which of GGML's types. */
export interface GgufTensor {
  /** The file that holds it. */
  readonly path: string;
  readonly byteOffset: number;
  /** The name of its format, such as `F16` or `Q4_K`. */
  readonly type: string;
  /** Rows first, as everywhere here; the file has the columns first. */
  readonly shape: readonly number[];
}

/** The metadata and the tensors of a GGUF file, or of all files of a split one. */
export interface Gguf {
  readonly path: string;
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** Whether a path is that of a GGUF file. */
export async function isGguf(path: string): Promise<boolean> {
  if (!/\.gguf$/i.test(path)) return false;
  const stats = await statsOf(path).catch(() => undefined);
  return stats?.kind === 'file';
}

const headers = new Map<string, { readonly version: string; readonly header: Promise<Gguf> }>();

/** Reads the header of a GGUF file, and those of its other parts. Throws `CheckpointError` for one that is damaged or missing. */
export async function readGguf(path: string): Promise<Gguf> {
  const { version } = await statsOf(path).catch((error: Error) => {
    throw new CheckpointError(`${path} cannot be read: ${reasonOf(error)}. Check the path.`, {
      cause: error,
    });
  });
  const known = headers.get(path);
  if (known?.version === version) return known.header;
  const header = readParts(path);
  headers.set(path, { version, header });
  header.catch(() => headers.delete(path));
  return header;
}

async function readParts(path: string): Promise<Gguf> {
  const split = parseGgufShardFilename(path);
  if (!split) {
    const whole = await readOne(path);
    const count = Number(whole.metadata['split.count'] ?? 1);
    if (count > 1) {
      throw new CheckpointError(
        `${path} is one of ${count} files of a model, under another name: they are found by the names that llama.cpp gives them, NAME-00001-of-${String(count).padStart(5, '0')}.gguf`,
      );
    }
    return whole;
  }
  const names = Array.from(
    { length: Number(split.total) },
    (_, i) => `${split.prefix}-${String(i + 1).padStart(5, '0')}-of-${split.total}.gguf`,
  );
  const found = await Promise.all(names.map((name) => statsOf(name).catch(() => undefined)));
  const missing = names.filter((_, i) => !found[i]);
  if (missing.length > 0) {
    throw new CheckpointError(
      `${path} is one of ${Number(split.total)} files of a model, of which ${missing.join(', ')} ${missing.length > 1 ? 'are' : 'is'} missing: download all of them into one folder`,
    );
  }
  const parts = await Promise.all(names.map(readOne));
  const tensors = new Map(parts.flatMap((part) => [...part.tensors]));
  return { path, metadata: parts[0]!.metadata, tensors };
}

async function readOne(path: string): Promise<Gguf> {
  const file = await openFile(path);
  // The address stands for the file: the library asks for parts of it as it would ask a server.
  const { metadata, tensorInfos, tensorDataOffset } = await gguf('https://localhost', {
    fetch: (_, init) => answerRange(file, init),
  })
    .catch((error: Error) => {
      throw new CheckpointError(
        `${path} is not a GGUF file that can be read: ${error.message}. Copy or download it again.`,
        { cause: error },
      );
    })
    .finally(() => file.close());
  const { size } = await statsOf(path);
  if (Number(tensorDataOffset) > size && tensorInfos.length > 0) {
    throw new CheckpointError(`${path} ends within its header: it was cut off. Download it again.`);
  }
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

/** What a server would answer that is asked for `bytes=first-last` of a file. */
async function answerRange(file: OpenedFile, init: RequestInit | undefined): Promise<Response> {
  const range = new Headers(init?.headers).get('range') ?? '';
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range)!;
  const bytes = new Uint8Array(Math.max(0, Math.min(Number(last) + 1, file.size) - Number(first)));
  await file.read(bytes, Number(first));
  return new Response(bytes, { headers: { 'content-range': `${range.replace('=', ' ')}/${file.size}` } });
}
