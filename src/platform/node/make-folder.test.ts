/** Folders are created, and failures are reported at once. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeFolder } from './make-folder.js';

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-make-folder-'));
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

test('missing folders are created, and the topmost of them is returned', async () => {
  mkdirSync(join(here, 'a'));
  expect(await makeFolder(join(here, 'a', 'b', 'c', 'd'))).toBe(join(here, 'a', 'b'));
  expect(statSync(join(here, 'a', 'b', 'c', 'd')).isDirectory()).toBe(true);
  expect(await makeFolder(join(here, 'a', 'b'))).toBeUndefined();
  expect(await makeFolder(join(here, 'e'))).toBe(join(here, 'e'));
});

test('concurrent calls all succeed', async () => {
  const folders = Array.from({ length: 20 }, (_, i) => join(here, 'x', 'y', `z${i % 4}`));
  const made = await Promise.all(folders.map((folder) => makeFolder(folder)));
  expect(folders.every((folder) => statSync(folder).isDirectory())).toBe(true);
  expect(made.filter((folder) => folder === join(here, 'x')).length).toBe(1);
});

test('a file in the way is an error', async () => {
  writeFileSync(join(here, 'file'), '');
  await expect(makeFolder(join(here, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
  await expect(makeFolder(join(here, 'file', 'a', 'b'))).rejects.toMatchObject({ code: 'ENOTDIR' });
});

test.skipIf(!existsSync('/proc/self'))('a filesystem without folder creation reports its error', async () => {
  await expect(makeFolder('/proc/heddle/model')).rejects.toMatchObject({ code: 'ENOENT' });
});
