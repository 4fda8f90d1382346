/** Reading files. System errors are thrown as Node has them. */
import { readSync } from 'node:fs';
import { appendFile, open, readdir, readFile, stat } from 'node:fs/promises';
import type { FileStats, FolderEntry, OpenedFile } from '../platform.js';

/** The version of a file: its inode, size and time of last change. */
export function fileVersion({
  ino,
  size,
  mtimeNs,
}: Readonly<Record<'ino' | 'size' | 'mtimeNs', bigint>>): string {
  return `${ino}-${size}-${mtimeNs}`;
}

/** See `Platform.statsOf`. */
export async function statsOf(path: string): Promise<FileStats> {
  const stats = await stat(path, { bigint: true });
  const kind = stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : 'other';
  return { kind, size: Number(stats.size), version: fileVersion(stats) };
}

/** Node takes at most 2^31 - 1 bytes in one call. */
const MOST_AT_ONCE = 2 ** 30;

/** See `Platform.openFile`. */
export async function openFile(path: string): Promise<OpenedFile> {
  const handle = await open(path, 'r');
  const stats = await handle.stat({ bigint: true });
  return {
    path,
    size: Number(stats.size),
    version: fileVersion(stats),
    async read(bytes, offset) {
      for (let done = 0; ; ) {
        const length = Math.min(bytes.byteLength - done, MOST_AT_ONCE);
        if (length === 0) return done;
        const { bytesRead } = await handle.read(bytes, done, length, offset + done);
        if (bytesRead === 0) return done;
        done += bytesRead;
      }
    },
    readNow(bytes, offset) {
      for (let done = 0; ; ) {
        const length = Math.min(bytes.byteLength - done, MOST_AT_ONCE);
        if (length === 0) return done;
        const count = readSync(handle.fd, bytes, done, length, offset + done);
        if (count === 0) return done;
        done += count;
      }
    },
    close: () => handle.close(),
  };
}

/** See `Platform.readBytes`. */
export function readBytes(path: string): Promise<Uint8Array> {
  return readFile(path);
}

/** See `Platform.readText`. */
export async function readText(path: string): Promise<string> {
  return (await readFile(path, 'utf8')).replace(/^\ufeff/, '');
}

/** See `Platform.readFolder`. */
export async function readFolder(path: string): Promise<FolderEntry[]> {
  const entries = await readdir(path, { withFileTypes: true });
  return entries.map((entry) => ({ name: entry.name, isFolder: entry.isDirectory() }));
}

/** See `Platform.appendText`. */
export function appendText(path: string, text: string): Promise<void> {
  return appendFile(path, text);
}
