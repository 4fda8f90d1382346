/** The files of a served model, for pages that run it in the browser. */
import { createHash } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ReadableStream } from 'node:stream/web';
import { ConfigError } from '../errors.js';
import { isVocabularyFile } from '../text/index.js';

/** The place that a served model was loaded from. */
export interface ModelPlace {
  /** Its folder, or its GGUF file. */
  readonly folder: string;
  /** The folder of an adapter that was applied to it. */
  readonly adapter?: string | undefined;
}

/** The files that `heddle/browser` reads. */
const READ = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja',
  'chat_template.json',
  'model.safetensors.index.json',
];

/** The names and sizes (in bytes) of the files. Throws `ConfigError` for an adapter, which the browser cannot apply. */
export async function modelFiles(place: ModelPlace): Promise<Record<string, number>> {
  const found = await statsOf(place);
  return Object.fromEntries(found.map(([name, { size }]) => [name, size]));
}

/**
 * A version string of the files. Weights in safetensors are identified by `fingerprint`, so that a copy of the same weights is not downloaded
 * again; the tokenizer and template are added, since the fingerprint does not include them. Throws as `modelFiles` does.
 */
export async function modelVersion(place: ModelPlace, fingerprint: string): Promise<string> {
  const hash = createHash('sha256');
  for (const [name, stats] of await statsOf(place)) {
    if (!name.endsWith('.safetensors')) hash.update(`${name} ${markOf(stats)}\n`);
  }
  return `${fingerprint}-${hash.digest('hex').slice(0, 12)}`;
}

/** A string that changes when the file changes. */
const markOf = ({ size, mtimeMs }: Stats): string => `${size}-${mtimeMs}`;

async function statsOf({ folder, adapter }: ModelPlace): Promise<[string, Stats][]> {
  const isFile = (await stat(folder)).isFile();
  const place = isFile ? dirname(folder) : folder;
  const names = isFile ? [basename(folder)] : await readdir(folder);
  if (adapter !== undefined || names.includes('adapter_config.json')) {
    throw new ConfigError('an adapter runs on the server alone: merge it into its model first');
  }
  const wanted = names.filter(
    (name) => isFile || READ.includes(name) || name.endsWith('.safetensors') || isVocabularyFile(name),
  );
  return Promise.all(
    wanted.sort().map(async (name): Promise<[string, Stats]> => [name, await stat(join(place, name))]),
  );
}

/** A response with one of the files, or its rest from the start of the range. Undefined if the model has no such file. */
export async function modelFile(
  place: ModelPlace,
  name: string,
  headers: Headers,
): Promise<Response | undefined> {
  if (!Object.hasOwn(await modelFiles(place), name)) return undefined;
  const { folder } = place;
  const path = basename(folder) === name ? folder : join(folder, name);
  const stats = await stat(path);
  const { size } = stats;
  const etag = `"${markOf(stats)}"`;
  const [, begin] = /^bytes=(\d+)-$/.exec(headers.get('range') ?? '') ?? [];
  const isSame = [null, etag].includes(headers.get('if-range'));
  const start = begin !== undefined && isSame ? Number(begin) : 0;
  const told = { etag, 'accept-ranges': 'bytes', 'cache-control': 'no-cache' };
  if (start > 0 && start >= size) {
    return new Response(null, { status: 416, headers: { ...told, 'content-range': `bytes */${size}` } });
  }
  return new Response(ReadableStream.from(read(path, start)) as BodyInit, {
    status: start > 0 ? 206 : 200,
    headers: {
      ...told,
      'content-type': 'application/octet-stream',
      'content-length': String(size - start),
      ...(start > 0 && { 'content-range': `bytes ${start}-${size - 1}/${size}` }),
    },
  });
}

/** Opens the file only when it is read, which does not happen for HEAD requests. */
async function* read(path: string, start: number): AsyncGenerator<Uint8Array, void> {
  yield* createReadStream(path, { start });
}
