/** The file system interface, implemented in the origin private file system and in memory. */
import type { FolderEntry } from '../platform.js';

/** A file system: paths are absolute, with `/` between their parts. */
export interface Volume {
  /** Looks up a path: a file's current contents, a folder, or undefined. */
  find(path: string): Promise<Blob | 'folder' | undefined>;
  /** Throws a `SystemError` if there is no such folder. */
  list(folder: string): Promise<FolderEntry[]>;
  /** Creates a folder and its parents. */
  makeFolder(folder: string): Promise<void>;
  /** Opens a file for writing, creating it if it is missing; its folder must exist. */
  openWriter(path: string): Promise<Writer>;
  /** Moves a file, replacing a file at the new path. */
  move(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder and its contents, if it exists. */
  remove(path: string): Promise<void>;
}

/** A file that is being written, by one writer at a time. */
export interface Writer {
  readonly size: number;
  /** Throws a `DOMException` if the storage quota is exceeded. */
  write(bytes: Uint8Array, offset: number): void;
  /** Truncates the file to `size` bytes. */
  truncate(size: number): void;
  /** Closes the file; its bytes are then visible to others. */
  close(): void;
}

/** Node's error for a path that is missing or of the wrong kind. */
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
