/** Saved states in a folder: one file each, written atomically. */

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '../../checkpoint/index.js';
import { StorageError } from '../../errors.js';
import { reasonOf } from '../../platform/unreadable.js';
import type { Store } from './store.js';

/** States as files of a folder. */
export class FolderStore implements Store {
  constructor(private readonly folder: string) {}

  get(key: string): Promise<Uint8Array | undefined> {
    return unlessAbsent(() => readFile(this.pathOf(key)));
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    await this.makeRoom(key);
    await writeFileAtomic(this.pathOf(key), bytes);
  }

  async getFile<T>(key: string, read: (path: string) => Promise<T>): Promise<T | undefined> {
    const path = this.pathOf(key);
    return existsSync(path) ? read(path) : undefined;
  }

  async putFile(key: string, write: (path: string) => Promise<void>): Promise<number> {
    await this.makeRoom(key);
    const path = this.pathOf(key);
    await write(path);
    return (await stat(path)).size;
  }

  async copy(from: string, to: string): Promise<boolean> {
    await this.makeRoom(to);
    const temporary = `${this.pathOf(to)}.${randomBytes(6).toString('hex')}.heddle-tmp`;
    const copied = await unlessAbsent(async () => {
      await copyFile(this.pathOf(from), temporary);
      await rename(temporary, this.pathOf(to));
      return true;
    });
    return copied === true;
  }

  async delete(key: string): Promise<boolean> {
    const deleted = await unlessAbsent(async () => {
      await rm(this.pathOf(key));
      return true;
    });
    return deleted === true;
  }

  async list(prefix: string): Promise<string[]> {
    const names = (await unlessAbsent(() => readdir(this.pathOf(prefix)))) ?? [];
    return names.filter((name) => !name.endsWith('.heddle-tmp')).map((name) => `${prefix}${name}`);
  }

  async close(): Promise<void> {}

  private pathOf(key: string): string {
    return join(this.folder, ...key.split('/'));
  }

  /** Creates the folder, readable by this user only, since states contain conversations. */
  private async makeRoom(key: string): Promise<void> {
    try {
      await mkdir(dirname(this.pathOf(key)), { recursive: true, mode: 0o700 });
    } catch (error) {
      throw failed(error);
    }
  }
}

async function unlessAbsent<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw failed(error);
  }
}

function failed(error: unknown): StorageError {
  return new StorageError(`the folder of the states cannot be used: ${reasonOf(error)}`, {
    cause: error,
  });
}
