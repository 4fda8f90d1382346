/** Reading files. An open file gives the content that it had when it was opened. */
import type { FileStats, FolderEntry, OpenedFile } from '../platform.js';
import { SystemError } from './volume.js';
import { placeOf } from './volumes.js';

/** See `Platform.statsOf`; the version consists of the size and the time of the last change. */
export async function statsOf(path: string): Promise<FileStats> {
  const place = await placeOf(path);
  const found = await place.volume.find(place.path);
  if (found === undefined) throw new SystemError('ENOENT', path);
  if (found === 'folder') return { kind: 'folder', size: 0, version: '' };
  return { kind: 'file', size: found.size, version: versionOf(found) };
}

/** The file as a Blob, which can be sent out of the worker. Throws `SystemError` if it does not exist. */
export async function blobOf(path: string): Promise<Blob> {
  const place = await placeOf(path);
  const found = await place.volume.find(place.path);
  if (found === undefined) throw new SystemError('ENOENT', path);
  if (found === 'folder') throw new SystemError('EISDIR', path);
  return found;
}

function versionOf(file: Blob): string {
  return `${file.size}-${file instanceof File ? file.lastModified : 0}`;
}

/** The least bytes of a read, since each read is a call to another process. */
const WINDOW = 2 ** 16;

/** See `Platform.openFile`; `readNow` works only in a worker, since only workers have `FileReaderSync`. */
export async function openFile(path: string): Promise<OpenedFile> {
  const file = await blobOf(path);
  let window = new Uint8Array();
  let windowStart = 0;
  return {
    path,
    size: file.size,
    version: versionOf(file),
    async read(bytes, offset) {
      const found = await file.slice(offset, offset + bytes.byteLength).arrayBuffer();
      bytes.set(new Uint8Array(found));
      return found.byteLength;
    },
    readNow(bytes, offset) {
      const isHeld = offset >= windowStart && offset + bytes.byteLength <= windowStart + window.byteLength;
      if (!isHeld) {
        const end = offset + Math.max(WINDOW, bytes.byteLength);
        window = new Uint8Array(new FileReaderSync().readAsArrayBuffer(file.slice(offset, end)));
        windowStart = offset;
      }
      const from = offset - windowStart;
      const held = window.subarray(from, from + bytes.byteLength);
      bytes.set(held);
      return held.byteLength;
    },
    async close() {},
  };
}

/** See `Platform.readBytes`. */
export async function readBytes(path: string): Promise<Uint8Array> {
  return new Uint8Array(await (await blobOf(path)).arrayBuffer());
}

/** See `Platform.readText`. */
export async function readText(path: string): Promise<string> {
  return (await blobOf(path)).text();
}

/** See `Platform.readFolder`. */
export async function readFolder(path: string): Promise<FolderEntry[]> {
  const place = await placeOf(path);
  return place.volume.list(place.path);
}

/** See `Platform.appendText`. */
export async function appendText(path: string, text: string): Promise<void> {
  const place = await placeOf(path);
  const writer = await place.volume.openWriter(place.path);
  try {
    writer.write(new TextEncoder().encode(text), writer.size);
  } finally {
    writer.close();
  }
}

/** Available in workers only. */
declare class FileReaderSync {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}
