/** How much room a disk has left. */
import { statfs } from 'node:fs/promises';
import { ArchiveUnavailableError } from '../errors.js';

/** Free bytes below which nothing is written: on a full disk PGlite tries for ever. It makes files of 16 MB ahead of what it writes. */
export const ROOM = 64e6;

/** Throws `ArchiveUnavailableError` where the disk has fewer bytes left. */
export async function expectRoom(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= bytes) return;
  throw new ArchiveUnavailableError(
    `the disk of ${folder} is full: ${Math.floor((bavail * bsize) / 1e6)} MB are free, and ${Math.ceil(bytes / 1e6)} are needed. What was done before is kept; make room, and start again.`,
  );
}
