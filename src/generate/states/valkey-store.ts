/**
 * Saved states in Valkey or Redis. A value is limited to 512 MB there, so a larger state is split into parts `KEY#1`, `KEY#2`, ..., which are
 * set in one transaction; `KEY` itself has their number.
 */
import type { Redis } from 'iovalkey';
import { StorageError } from '../../errors.js';
import { connectValkey } from '../../platform/node/valkey.js';
import type { Store } from './store.js';
import { getThroughFile, putThroughFile } from './through-file.js';

const PREFIX = 'heddle:';
const PART_BYTES = 2 ** 26;

/** States as values of Valkey or Redis. */
export class ValkeyStore implements Store {
  private readonly client: Redis;

  constructor(place: string) {
    this.client = connectValkey(place);
  }

  get(key: string): Promise<Uint8Array | undefined> {
    return this.reach(async (client) => {
      const parts = await client.get(name(key));
      if (parts === null) return undefined;
      const found = await client.mgetBuffer(partNames(key, Number(parts)));
      if (found.some((part) => part === null)) return undefined;
      return Buffer.concat(found as Buffer[]);
    });
  }

  put(key: string, bytes: Uint8Array): Promise<void> {
    return this.reach(async (client) => {
      const count = Math.max(1, Math.ceil(bytes.byteLength / PART_BYTES));
      const all = client.multi().set(name(key), String(count));
      for (const [i, part] of partNames(key, count).entries()) {
        all.set(part, Buffer.from(bytes.subarray(i * PART_BYTES, (i + 1) * PART_BYTES)));
      }
      await all.exec();
    });
  }

  getFile<T>(key: string, read: (path: string) => Promise<T>): Promise<T | undefined> {
    return getThroughFile(this, key, read);
  }

  putFile(key: string, write: (path: string) => Promise<void>): Promise<number> {
    return putThroughFile(this, key, write);
  }

  copy(from: string, to: string): Promise<boolean> {
    return this.reach(async (client) => {
      const parts = await client.get(name(from));
      if (parts === null) return false;
      const all = client.multi().set(name(to), parts);
      const targets = partNames(to, Number(parts));
      for (const [i, part] of partNames(from, Number(parts)).entries()) {
        all.copy(part, targets[i]!, 'REPLACE');
      }
      const results = (await all.exec()) ?? [];
      // A part that was deleted in the meantime is not copied.
      if (results.slice(1).every(([, copied]) => copied === 1)) return true;
      await this.delete(to);
      return false;
    });
  }

  delete(key: string): Promise<boolean> {
    return this.reach(async (client) => {
      const parts = await client.get(name(key));
      if (parts === null) return false;
      return (await client.del(name(key), ...partNames(key, Number(parts)))) > 0;
    });
  }

  list(prefix: string): Promise<string[]> {
    return this.reach(async (client) => {
      const keys = new Set<string>();
      let cursor = '0';
      do {
        const [next, found] = await client.scan(cursor, 'MATCH', `${name(prefix)}*`, 'COUNT', 1000);
        for (const key of found) if (!key.includes('#')) keys.add(key.slice(PREFIX.length));
        cursor = next;
      } while (cursor !== '0');
      return [...keys];
    });
  }

  async close(): Promise<void> {
    this.client.disconnect();
  }

  private async reach<T>(work: (client: Redis) => Promise<T>): Promise<T> {
    try {
      return await work(this.client);
    } catch (error) {
      throw new StorageError(`the store of the states cannot be used: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}

function name(key: string): string {
  return `${PREFIX}${key}`;
}

function partNames(key: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${name(key)}#${i + 1}`);
}
