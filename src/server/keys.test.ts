/** Keys in a file: each name has one, and a file of something else is told. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { ApiKeys, addKey } from './keys.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-keys-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

test('a second key of one name is refused, and the first one still counts', async () => {
  const path = join(here, 'keys.json');
  const [ann, bob] = [await addKey(path, 'ann'), await addKey(path, 'bob')];
  const before = readFileSync(path, 'utf8');
  await expect(addKey(path, 'ann')).rejects.toThrow(/has a key named 'ann' already: choose another name/);
  expect(readFileSync(path, 'utf8')).toBe(before);
  const keys = await ApiKeys.load(path);
  expect([keys.ownerOf(ann), keys.ownerOf(bob), keys.ownerOf('x')]).toEqual(['ann', 'bob', undefined]);
});

test.each([
  ['{"keys": [', /is no file of keys: it is no JSON/],
  ['[]', /is no file of keys: expected an object, and it is a list/],
  ['{"keys": [{"name": "a"}]}', /is no file of keys: keys\.0\.sha256: it is missing: expected a text/],
])('%s is no file of keys', async (text, message) => {
  const path = join(here, 'other.json');
  writeFileSync(path, text);
  for (const use of [() => ApiKeys.load(path), () => addKey(path, 'ann')]) {
    await expect(use()).rejects.toThrow(ConfigError);
    await expect(use()).rejects.toThrow(message);
  }
  expect(readFileSync(path, 'utf8')).toBe(text);
});

test('a folder is no file of keys', async () => {
  await expect(addKey(here, 'ann')).rejects.toThrow(/cannot be read: it is a folder/);
});
