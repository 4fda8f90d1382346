/** Where files lie: in the origin's private file system, or in memory. */
import type { FolderEntry } from '../platform.js';

/** A file system: paths are absolute, with `/` between their parts. */
export interface Volume {
  /** What a path stands for: a file's contents, as they are now, or a folder. */
  find(path: string): Promise<Blob | 'folder' | undefined>;
  /** Throws a `SystemError` where there is no such folder. */
  list(folder: string): Promise<FolderEntry[]>;
  /** Makes a folder and those above it. */
  makeFolder(folder: string): Promise<void>;
  /** Opens a file for writing, which is made if need be; the folder above it has to be there. */
  openWriter(path: string): Promise<Writer>;
  /** Gives a file another path, in place of what stood there. */
  move(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with all that is in it, where there is one. */
  remove(path: string): Promise<void>;
}

/** A file that is being written. Nobody else writes it meanwhile. */
export interface Writer {
  readonly size: number;
  /** Throws a `DOMException` where the browser gives no more room. */
  write(bytes: Uint8Array, offset: number): void;
  /** Cuts the file to so many bytes. */
  truncate(size: number): void;
  /** What was written is there for others. */
  close(): void;
}

/** What Node's functions throw where a path is not what they need. */
export class SystemError extends Error {
  readonly syscall = 'open';

  constructor(
    readonly code: 'ENOENT' | 'ENOTDIR' | 'EISDIR',
    path: string,
  ) {
    const why = {
      ENOENT: 'no such file or directory',
      ENOTDIR: 'not a directory',
      EISDIR: 'illegal operation on a directory',
    };
    super(`${code}: ${why[code]}, open '${path}'`);
  }
}
