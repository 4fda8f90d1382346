import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StorageError } from '../../errors.js';
import { LockedError, lockFolder } from './lock.js';

const own = `lock-${process.pid}-${hostname()}`;
let here: string;
let folder: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-lock-'));
  folder = join(here, 'hidden');
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

test('one writer at a time locks a folder, and releases it', async () => {
  const release = await lockFolder(folder, 'models/loom');
  expect(readdirSync(folder)).toEqual([own]);
  const second = lockFolder(folder, 'models/loom');
  await expect(second).rejects.toBeInstanceOf(StorageError);
  await expect(second).rejects.toThrow(
    new RegExp(`Could not write models/loom: process ${process.pid} is downloading into it\\. Wait`),
  );
  await release();
  expect(readdirSync(folder)).toEqual([]);
  await (await lockFolder(folder, 'models/loom'))();
});

test.each([`lock-${process.ppid}-${hostname()}`, `lock-${process.ppid}`])(
  'a running process keeps its lock %s',
  async (lock) => {
    await (await lockFolder(folder, 'models/loom'))();
    writeFileSync(join(folder, lock), '');
    await expect(lockFolder(folder, 'models/loom')).rejects.toThrow(
      new RegExp(`process ${process.ppid} is downloading into it.*remove .*${lock}`),
    );
    expect(readdirSync(folder)).toEqual([lock]);
  },
);

test('locks of another machine stay, whether a process here has the number or not', async () => {
  const { pid } = spawnSync(process.execPath, ['-e', '']);
  await (await lockFolder(folder, 'models/loom'))();
  for (const id of [pid, process.pid, process.ppid]) {
    const lock = `lock-${id}-other.lan`;
    writeFileSync(join(folder, lock), '');
    const error = await lockFolder(folder, 'models/loom').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(LockedError);
    expect(error).toMatchObject({ holder: { name: lock, pid: id, machine: 'other.lan' } });
    expect((error as Error).message).toContain(
      `process ${id} on the machine other.lan is downloading into it. Wait until it is done; if that process has ended, remove ${join(folder, lock)}`,
    );
    expect(readdirSync(folder)).toEqual([lock]);
    rmSync(join(folder, lock));
  }
});

test('locks of ended processes are removed', async () => {
  const { pid } = spawnSync(process.execPath, ['-e', '']);
  await (await lockFolder(folder, 'models/loom'))();
  writeFileSync(join(folder, `lock-${pid}`), '');
  writeFileSync(join(folder, `lock-${pid}-${hostname()}`), '');
  // Also one of a process with our own id, as in a restarted container.
  writeFileSync(join(folder, `lock-${process.pid}`), '');
  const release = await lockFolder(folder, 'models/loom');
  expect(readdirSync(folder)).toEqual([own]);
  await release();
});

test('of many concurrent writers, never two hold the lock', async () => {
  let holders = 0;
  let most = 0;
  const outcomes = await Promise.allSettled(
    Array.from({ length: 8 }, async () => {
      const release = await lockFolder(folder, 'models/loom');
      most = Math.max(most, ++holders);
      await new Promise((resolve) => setTimeout(resolve, 5));
      holders--;
      await release();
    }),
  );
  expect(most).toBe(1);
  expect(outcomes.some(({ status }) => status === 'fulfilled')).toBe(true);
  expect(existsSync(join(folder, own))).toBe(false);
});
