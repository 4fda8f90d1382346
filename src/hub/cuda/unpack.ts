/** Unpacks selected files of a zip archive. */
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { openPromise } from 'yauzl';
import { inWords } from '../../checkpoint/index.js';
import { HubError } from '../../errors.js';

/** Which entries of an archive are unpacked, and into which folder. */
export interface Unpacking {
  readonly archive: string;
  /** The archive's name in error messages. */
  readonly name: string;
  readonly into: string;
  readonly wanted: (path: string) => boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (bytes: number) => void;
}

/** Unpacks the wanted files and keeps their executable bits. Throws `HubError` for an invalid archive, `StorageError` when the disk fails. */
export async function unpack(unpacking: Unpacking): Promise<void> {
  for await (const { path, executable, open } of entries(unpacking)) {
    const target = join(unpacking.into, path);
    try {
      await mkdir(dirname(target), { recursive: true });
      const source = await open();
      source.on('data', (chunk: Buffer) => unpacking.onBytes?.(chunk.length));
      await pipeline(source, createWriteStream(target, { mode: executable ? 0o755 : 0o644 }), {
        ...(unpacking.signal ? { signal: unpacking.signal } : {}),
      });
    } catch (error) {
      unpacking.signal?.throwIfAborted();
      throw inWordsOrDamaged(unpacking, target, error);
    }
  }
}

/** Total size of the wanted files when unpacked, in bytes. Throws `HubError` for an invalid archive. */
export async function unpackedSize(
  unpacking: Pick<Unpacking, 'archive' | 'name' | 'wanted'>,
): Promise<number> {
  let bytes = 0;
  for await (const { size } of entries(unpacking)) bytes += size;
  return bytes;
}

interface Entry {
  readonly path: string;
  readonly size: number;
  readonly executable: boolean;
  readonly open: () => Promise<NodeJS.ReadableStream>;
}

async function* entries(unpacking: Pick<Unpacking, 'archive' | 'name' | 'wanted'>): AsyncGenerator<Entry> {
  let zip: Awaited<ReturnType<typeof openPromise>>;
  try {
    zip = await openPromise(unpacking.archive, { autoClose: false });
  } catch (error) {
    throw inWordsOrDamaged(unpacking, unpacking.archive, error);
  }
  try {
    // yauzl refuses names that point outside the folder.
    for await (const entry of zip.eachEntry()) {
      if (!unpacking.wanted(entry.fileName)) continue;
      yield {
        path: entry.fileName,
        size: entry.uncompressedSize,
        // The upper 16 bits are the Unix mode.
        executable: ((entry.externalFileAttributes >>> 16) & 0o111) !== 0,
        open: () => zip.openReadStreamPromise(entry),
      };
    }
  } catch (error) {
    throw inWordsOrDamaged(unpacking, unpacking.archive, error);
  } finally {
    zip.close();
  }
}

/** Converts a system error to `StorageError`, and an error of yauzl or zlib to `HubError`. */
function inWordsOrDamaged({ name }: Pick<Unpacking, 'name'>, path: string, error: unknown): unknown {
  const told = inWords(path, error);
  if (told !== error) return told;
  return new HubError(
    `${name} cannot be unpacked: ${error instanceof Error ? error.message : error}. Its bytes are those that the index lists: name another index.`,
    { cause: error },
  );
}
