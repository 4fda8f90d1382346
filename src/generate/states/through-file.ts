/** `getFile` and `putFile` for stores without files, through temporary files. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inBytes } from '../../checkpoint/index.js';
import { StorageError } from '../../errors.js';
import type { Store } from './store.js';

/** The most bytes of a value: the largest file that Node.js reads at once. */
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

/** See `Store.putFile`. Throws `StorageError` for a file that is too large. */
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

/** Runs `work` with the path of a temporary file, which is removed afterwards. */
async function inFile<T>(work: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-state-'));
  try {
    return await work(join(folder, 'state'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
