/** The interface of stores: bytes by key, in a folder or in a service that several servers share. */

/** Bytes by key, with slashes between the parts of a key: a folder, S3 or Valkey. */
export interface Store {
  /** Undefined if there is no such key. */
  get(key: string): Promise<Uint8Array | undefined>;
  /** Replaces the value atomically. */
  put(key: string, bytes: Uint8Array): Promise<void>;
  /** Calls `read` with a file that has the value, and returns its result; undefined if there is no such key. */
  getFile<T>(key: string, read: (path: string) => Promise<T>): Promise<T | undefined>;
  /** Stores the file that `write` writes, atomically; returns its size in bytes. */
  putFile(key: string, write: (path: string) => Promise<void>): Promise<number>;
  /** Returns whether there was a value to copy. */
  copy(from: string, to: string): Promise<boolean>;
  /** Returns whether there was a value to delete. */
  delete(key: string): Promise<boolean>;
  /** All keys that begin with `prefix`, which ends with a slash. */
  list(prefix: string): Promise<string[]>;
  close(): Promise<void>;
}
