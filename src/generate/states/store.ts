/** Where states lie: bytes by keys, in a folder or in a service that several servers share. */
import { FolderStore } from './folder-store.js';
import { S3Store } from './s3-store.js';
import { ValkeyStore } from './valkey-store.js';

/** Bytes under keys, whose parts are cut by slashes: a folder, S3 or Valkey. */
export interface Store {
  /** Undefined where there is nothing under that key. */
  get(key: string): Promise<Uint8Array | undefined>;
  /** The file that has what is under that key, where it is one of this machine: it can be read without a copy. */
  fileOf?(key: string): string;
  /** The same for one that is written there, whole or not at all: its folder is there. */
  placeFor?(key: string): Promise<string>;
  /** What was there is replaced, at once. */
  put(key: string, bytes: Uint8Array): Promise<void>;
  /** Whether there was something to copy. */
  copy(from: string, to: string): Promise<boolean>;
  /** Whether there was something to delete. */
  delete(key: string): Promise<boolean>;
  /** All keys that begin with `prefix`, which ends with a slash. */
  list(prefix: string): Promise<string[]>;
  close(): Promise<void>;
}

/**
 * The store at a place: `redis://host:6379/0`, `valkey://...`, their kin with TLS `rediss://...` and `valkeys://...`;
 * `s3://bucket/prefix?endpoint=https://...&region=...`, with credentials in `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`;
 * anything else is a folder. Throws `ConfigError` for a place that cannot be understood; a service that cannot be
 * reached shows when it is first needed.
 */
export function openStore(place: string, environment: NodeJS.ProcessEnv = process.env): Store {
  if (/^(redis|valkey)s?:\/\//.test(place)) return new ValkeyStore(place);
  if (place.startsWith('s3://')) return S3Store.at(place, environment);
  return new FolderStore(place);
}
