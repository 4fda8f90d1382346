/** A store of states in the browser's private file system. */
import {
  dirname,
  inWords,
  join,
  makeFolder,
  readBytes,
  readFolder,
  statsOf,
  writeFileAtomic,
} from '#platform';
import type { Store } from '../generate/index.js';
import { remove, SystemError } from '../platform/browser/storage.js';

/** Stores states as files of the browser's private file system. */
export class PrivateStore implements Store {
  constructor(private readonly folder: string) {}

  get(key: string): Promise<Uint8Array | undefined> {
    return unlessAbsent(() => readBytes(this.pathOf(key)));
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    await this.putFile(key, (path) => writeFileAtomic(path, bytes));
  }

  async getFile<T>(key: string, read: (path: string) => Promise<T>): Promise<T | undefined> {
    const path = this.pathOf(key);
    return (await isThere(path)) ? read(path) : undefined;
  }

  async putFile(key: string, write: (path: string) => Promise<void>): Promise<number> {
    const path = this.pathOf(key);
    try {
      await makeFolder(dirname(path));
      await write(path);
      return (await statsOf(path)).size;
    } catch (error) {
      throw inWords(path, error);
    }
  }

  async copy(from: string, to: string): Promise<boolean> {
    const bytes = await this.get(from);
    if (bytes) await this.put(to, bytes);
    return bytes !== undefined;
  }

  async delete(key: string): Promise<boolean> {
    const path = this.pathOf(key);
    const wasThere = await isThere(path);
    await remove(path);
    return wasThere;
  }

  async list(prefix: string): Promise<string[]> {
    const entries = (await unlessAbsent(() => readFolder(this.pathOf(prefix)))) ?? [];
    return entries.flatMap(({ name }) => (name.endsWith('.heddle-tmp') ? [] : [`${prefix}${name}`]));
  }

  async close(): Promise<void> {}

  private pathOf(key: string): string {
    return join(this.folder, key);
  }
}

async function isThere(path: string): Promise<boolean> {
  return (await unlessAbsent(() => statsOf(path))) !== undefined;
}

async function unlessAbsent<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof SystemError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
