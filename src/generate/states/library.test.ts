/** The library of states: what a store cannot take is told in words. */
import { truncate, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { StorageError } from '../../errors.js';
import type { Snapshot } from '../snapshot.js';
import { StateLibrary } from './library.js';
import type { Store } from './store.js';
import { putThroughFile } from './through-file.js';

test('a state that is too large to be sent to a store is refused in words, and nothing is kept of it', async () => {
  const put: string[] = [];
  const store = {
    put: async (key: string) => void put.push(key),
    putFile: (key: string, write: (path: string) => Promise<void>) => putThroughFile(store, key, write),
  } as Partial<Store> as Store;
  const large = {
    length: 1,
    // Two GiB that take no place on the disk.
    async save(path: string) {
      await writeFile(path, '');
      await truncate(path, 2 ** 31);
    },
  } as Snapshot;
  const state = { model: 'm', name: null, parent: null, base: 1, messages: [] };
  const saving = new StateLibrary(store).save('owner', large, state);
  await expect(saving).rejects.toThrow(StorageError);
  await expect(saving).rejects.toThrow(/takes 2\.1\d* GB, and a store in S3, Valkey or Redis takes/);
  expect(put).toEqual([]);
});
