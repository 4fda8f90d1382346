/**
 * The platform interface: files, threads and digests, implemented for Node.js and for browser tabs in a folder each. `#platform` resolves to the
 * right one (`imports` of package.json).
 */
import type * as browser from './browser/index.js';
import type * as node from './node/index.js';

/** The exports of each implementation. */
export interface Platform {
  /** Path operations, as in `node:path`. */
  join(...parts: string[]): string;
  dirname(path: string): string;
  basename(path: string): string;

  /** The stats of a path. Throws a system error, with the code `ENOENT` if it does not exist. */
  statsOf(path: string): Promise<FileStats>;
  /** Throws as `statsOf` does. */
  openFile(path: string): Promise<OpenedFile>;
  /** Reads a whole file. Throws as `statsOf` does. */
  readBytes(path: string): Promise<Uint8Array>;
  /** Reads a whole file as UTF-8 text, without the byte order mark that editors on Windows may put before it. */
  readText(path: string): Promise<string>;
  /** Lists a folder. Throws as `statsOf` does. */
  readFolder(path: string): Promise<FolderEntry[]>;

  /** Creates a folder and its missing parents; returns the topmost created folder, if any. */
  makeFolder(folder: string): Promise<string | undefined>;
  /** Writes a file atomically. Throws `StorageError`. */
  writeFileAtomic(path: string, data: Uint8Array | string): Promise<void>;
  /** Writes a file atomically in pieces: `produce` awaits each call of `write`. */
  streamFileAtomic(path: string, produce: (write: WriteBytes) => Promise<void>): Promise<void>;
  /** Replaces a folder atomically: `fill` gets the path of an empty folder that then takes its place. */
  writeFolderAtomic(folder: string, fill: (temporaryFolder: string) => Promise<void>): Promise<void>;
  /** Lets one process at a time write a folder; returns the function that releases the lock. Throws `StorageError` while another process holds it. */
  lockFolder(folder: string, owner: string, doing: string): Promise<() => Promise<void>>;
  /** Call it before reading a folder that `writeFolderAtomic` writes: undoes a replacement that a crash interrupted. */
  recoverFolder(folder: string): Promise<void>;
  /** Appends to a file. Throws system errors. */
  appendText(path: string, text: string): Promise<void>;
  /** A system error about `path` as a `StorageError`; any other error as it is. */
  inWords(path: string, error: unknown): unknown;

  /** An incremental SHA-256. */
  sha256(): Digest;

  /** The number of threads that can compute concurrently. */
  availableThreads(): number;
  /** Starts a thread that calls the function of this source, `(data, ready) => ...`, once. */
  startThread(source: string, data: unknown): Thread;
  /** Enables relaxed SIMD if the JavaScript engine has it behind a flag. */
  enableRelaxedSimd(): void;
  /** Lets pending timers and messages run. */
  nextTurn(): Promise<void>;

  /** The words of a shell command that call `heddle`, for hints. */
  heddleCommand(): string;
}

/** The stats of a path; `size` is in bytes. */
export interface FileStats {
  readonly kind: 'file' | 'folder' | 'other';
  readonly size: number;
  /** A string that changes when the file changes. */
  readonly version: string;
}

/** A file or a folder within a folder, by its name alone. */
export interface FolderEntry {
  readonly name: string;
  readonly isFolder: boolean;
}

/** A file that is open for reading. */
export interface OpenedFile {
  readonly path: string;
  readonly size: number;
  readonly version: string;
  /** Reads into `bytes` from `offset`, up to the end of the file. Returns the number of bytes read. */
  read(bytes: Uint8Array, offset: number): Promise<number>;
  /** The same synchronously, for thousands of small pieces. */
  readNow(bytes: Uint8Array, offset: number): number;
  close(): Promise<void>;
}

/**
 * Appends bytes to a file that is being written, or writes them at a position, for files that are not written in order. They may be reused
 * once the promise resolves.
 */
export type WriteBytes = (bytes: Uint8Array, position?: number) => Promise<void>;

/** An incremental hash; strings are hashed as UTF-8. */
export interface Digest {
  update(data: Uint8Array | string): this;
  digest(encoding: 'hex'): string;
}

/** A thread that was started. */
export interface Thread {
  /** Resolves when the source has called `ready`; rejects if it failed before. */
  readonly ready: Promise<void>;
  /** Resolves, with the reason, when it has ended. */
  readonly ended: Promise<string>;
  terminate(): Promise<unknown>;
}

/** Fails to compile if an implementation is incomplete. */
type Is<P extends Platform> = P;
/** Fails to compile unless both implementations satisfy `Platform`. */
export type Platforms = Is<typeof node> | Is<typeof browser>;
