/** Files of stores that have bytes alone: they lie on this machine for a moment. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inBytes } from '../../checkpoint/index.js';
import { StorageError } from '../../errors.js';
import type { Store } from './store.js';

/** Bytes that are sent to a store at once: what Node.js reads of a file. */
const MOST_BYTES = 2 ** 31 - 1;

/** See `Store.getFile`. */
export async function getThroughFile<T>(
  store: Pick<Store, 'get'>,
  key: string,
  read: (path: string) => Promise<T>,
): Promise<T | undefined> {
  const bytes = await store.get(key);
  if (!bytes) return undefined;
  return inFile(async (path) => {
    await writeFile(path, bytes);
    return read(path);
  });
}

/** See `Store.putFile`. Throws `StorageError` for a file that is too large to be sent. */
export async function putThroughFile(
  store: Pick<Store, 'put'>,
  key: string,
  write: (path: string) => Promise<void>,
): Promise<number> {
  const bytes = await inFile(async (path) => {
    await write(path);
    const { size } = await stat(path);
    if (size > MOST_BYTES)
      throw new StorageError(
        `the state takes ${inBytes(size)}, and a store in S3, Valkey or Redis takes ${inBytes(MOST_BYTES)} at most: keep the states in a folder, or read less`,
      );
    return readFile(path);
  });
  await store.put(key, bytes);
  return bytes.byteLength;
}

/** Does `work` with the path of a file that is gone afterwards. */
async function inFile<T>(work: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-state-'));
  try {
    return await work(join(folder, 'state'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
