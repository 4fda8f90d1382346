/** System errors in words: the codes that a disk, a path or its permissions give. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadTokenizerOrIds } from '../text/index.js';
import { reasonOf, systemRefusal } from './unreadable.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-unreadable-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

function failure(path: string): unknown {
  try {
    readFileSync(path);
  } catch (error) {
    return error;
  }
  throw new Error(`${path} can be read`);
}

test('what Node says of a path is told in words', () => {
  symlinkSync('loop', join(here, 'loop'));
  expect(reasonOf(failure(here))).toBe('it is a folder, and a file is expected');
  expect(reasonOf(failure(join(here, 'none')))).toBe('there is no such file');
  expect(reasonOf(failure(join(here, 'loop')))).toBe('its links point at each other');
  expect(systemRefusal(failure(join(here, 'loop')))).toBe(
    `${join(here, 'loop')} cannot be used: its links point at each other`,
  );
  const long = join(here, 'x'.repeat(300));
  expect(reasonOf(failure(long))).toBe('its name is longer than the file system allows');
  expect(systemRefusal(new Error('a bug'))).toBeUndefined();
  for (const code of ['EEXIST', 'EACCES', 'EPERM', 'ENOSPC', 'EROFS', 'EIO', 'EMFILE'])
    expect(reasonOf(Object.assign(new Error(`${code}: x`), { code }))).not.toMatch(/E[A-Z]{3}/);
});

test('files of a model are refused in words', async () => {
  mkdirSync(join(here, 'tokenizer.json'));
  await expect(loadTokenizerOrIds(here, 128)).rejects.toThrow(
    /tokenizer\.json cannot be read: it is a folder, and a file is expected/,
  );
});
