/** Where states lie: bytes by keys, in a folder or in a service that several servers share. */

/** Bytes under keys, whose parts are cut by slashes: a folder, S3 or Valkey. */
export interface Store {
  /** Undefined where there is nothing under that key. */
  get(key: string): Promise<Uint8Array | undefined>;
  /** What was there is replaced, at once. */
  put(key: string, bytes: Uint8Array): Promise<void>;
  /** What `read` makes of a file with what is under that key; undefined where there is nothing. */
  getFile<T>(key: string, read: (path: string) => Promise<T>): Promise<T | undefined>;
  /** Puts there what `write` writes to a file, whole or not at all; returns its bytes. */
  putFile(key: string, write: (path: string) => Promise<void>): Promise<number>;
  /** Whether there was something to copy. */
  copy(from: string, to: string): Promise<boolean>;
  /** Whether there was something to delete. */
  delete(key: string): Promise<boolean>;
  /** All keys that begin with `prefix`, which ends with a slash. */
  list(prefix: string): Promise<string[]>;
  close(): Promise<void>;
}
