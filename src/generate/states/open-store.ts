/** Opens a store by its address. */
import { FolderStore } from './folder-store.js';
import { S3Store } from './s3-store.js';
import type { Store } from './store.js';
import { ValkeyStore } from './valkey-store.js';

/**
 * The store at an address: `redis://host:6379/0`, `valkey://...`, with TLS `rediss://...` and `valkeys://...`;
 * `s3://bucket/prefix?endpoint=https://...&region=...`, with credentials in `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; anything else is
 * a folder. Throws `ConfigError` for an invalid address. A service that cannot be reached fails on first use.
 */
export function openStore(place: string): Store {
  if (/^(redis|valkey)s?:\/\//.test(place)) return new ValkeyStore(place);
  if (place.startsWith('s3://')) return S3Store.at(place, process.env);
  return new FolderStore(place);
}
