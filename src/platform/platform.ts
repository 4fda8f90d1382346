/**
 * What the toolkit asks of the place where it runs: files, threads and digests. Node.js and a browser's tab each answer in a
 * folder of their own; `#platform` is the one that belongs to where the code runs (`imports` of package.json).
 */
import type * as browser from './browser/index.js';
import type * as node from './node/index.js';

/** What each of the folders exports. */
export interface Platform {
  /** One path of several parts, and the parts of one. */
  join(...parts: string[]): string;
  dirname(path: string): string;
  basename(path: string): string;

  /** What a path stands for. Throws a system error, with the code `ENOENT` where it stands for nothing. */
  statsOf(path: string): Promise<FileStats>;
  /** Throws as `statsOf` does. */
  openFile(path: string): Promise<OpenedFile>;
  /** A whole file. Throws as `statsOf` does. */
  readBytes(path: string): Promise<Uint8Array>;
  /** The same as UTF-8 text. */
  readText(path: string): Promise<string>;
  /** What is in a folder. Throws as `statsOf` does. */
  readFolder(path: string): Promise<FolderEntry[]>;

  /** Makes what is missing of a folder's path; returns the topmost folder that was made, if any. */
  makeFolder(folder: string): Promise<string | undefined>;
  /** Writes a file whole or not at all. Throws `StorageError`. */
  writeFileAtomic(path: string, data: Uint8Array | string): Promise<void>;
  /** The same piece by piece: `produce` awaits each call of `write`. */
  streamFileAtomic(path: string, produce: (write: WriteBytes) => Promise<void>): Promise<void>;
  /** Replaces a folder whole or not at all: `fill` gets the path of an empty folder that then takes its place. */
  writeFolderAtomic(folder: string, fill: (temporaryFolder: string) => Promise<void>): Promise<void>;
  /** Lets one process at a time write a folder; returns the function that releases the lock. Throws `StorageError` while another process holds it. */
  lockFolder(folder: string, owner: string, doing: string): Promise<() => Promise<void>>;
  /** To be called before a folder is read that `writeFolderAtomic` writes: undoes what a crash left half done. */
  recoverFolder(folder: string): Promise<void>;
  /** Writes behind what a file holds. Throws system errors. */
  appendText(path: string, text: string): Promise<void>;
  /** A system error about `path` as a `StorageError`; any other error as it is. */
  inWords(path: string, error: unknown): unknown;

  /** SHA-256 of what it is told piece by piece. */
  sha256(): Digest;

  /** How many threads can compute at once. */
  availableThreads(): number;
  /** Starts a thread that calls the function of this source, `(data, ready) => ...`, once. */
  startThread(source: string, data: unknown): Thread;
  /** Switches relaxed SIMD on where an engine hides it behind a flag. */
  enableRelaxedSimd(): void;
  /** Lets timers and messages through, which wait while this thread computes. */
  nextTurn(): Promise<void>;

  /** The words of a shell command that call `heddle`, for hints. */
  heddleCommand(): string;
}

/** What a path stands for; `size` is in bytes. */
export interface FileStats {
  readonly kind: 'file' | 'folder' | 'other';
  readonly size: number;
  /** What tells a file from what it was, or is, at another time. */
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
  /** Fills `bytes` from `offset` on, as far as the file goes. Returns how many bytes those are. */
  read(bytes: Uint8Array, offset: number): Promise<number>;
  /** The same at once, for thousands of small pieces of which each would otherwise be waited for. */
  readNow(bytes: Uint8Array, offset: number): number;
  close(): Promise<void>;
}

/** Appends bytes to a file that is being written; they may be reused once the promise resolves. */
export type WriteBytes = (bytes: Uint8Array) => Promise<void>;

/** A hash over what it is updated with; strings count as UTF-8. */
export interface Digest {
  update(data: Uint8Array | string): this;
  digest(encoding: 'hex'): string;
}

/** A thread that was started. */
export interface Thread {
  /** Resolves when the source has called `ready`, rejects where it failed before. */
  readonly ready: Promise<void>;
  /** Resolves, with the reason, when it has ended. */
  readonly ended: Promise<string>;
  terminate(): Promise<unknown>;
}

/** Does not compile where one of them lacks something. */
type Is<P extends Platform> = P;
/** Fails to compile where the exports of a folder are no `Platform`. */
export type Platforms = Is<typeof node> | Is<typeof browser>;
