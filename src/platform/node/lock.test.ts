import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StorageError } from '../../errors.js';
import { lockFolder } from './lock.js';

let here: string;
let folder: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-lock-'));
  folder = join(here, 'hidden');
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

test('one writer at a time locks a folder, and releases it', async () => {
  const release = await lockFolder(folder, 'models/loom');
  expect(readdirSync(folder)).toEqual([`lock-${process.pid}`]);
  const second = lockFolder(folder, 'models/loom');
  await expect(second).rejects.toBeInstanceOf(StorageError);
  await expect(second).rejects.toThrow(
    new RegExp(`Could not write models/loom: process ${process.pid} is downloading into it\\. Wait`),
  );
  await release();
  expect(readdirSync(folder)).toEqual([]);
  await (await lockFolder(folder, 'models/loom'))();
});

test('a running process keeps its lock', async () => {
  const lock = join(folder, `lock-${process.ppid}`);
  await (await lockFolder(folder, 'models/loom'))();
  writeFileSync(lock, '');
  await expect(lockFolder(folder, 'models/loom')).rejects.toThrow(
    new RegExp(`process ${process.ppid} is downloading into it.*remove .*lock-${process.ppid}`),
  );
  expect(readdirSync(folder)).toEqual([`lock-${process.ppid}`]);
});

test('locks of ended processes are removed', async () => {
  const { pid } = spawnSync(process.execPath, ['-e', '']);
  await (await lockFolder(folder, 'models/loom'))();
  writeFileSync(join(folder, `lock-${pid}`), '');
  // Also one of a process with our own id, as in a restarted container.
  writeFileSync(join(folder, `lock-${process.pid}`), '');
  const release = await lockFolder(folder, 'models/loom');
  expect(readdirSync(folder)).toEqual([`lock-${process.pid}`]);
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
  expect(existsSync(join(folder, `lock-${process.pid}`))).toBe(false);
});
