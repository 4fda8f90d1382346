/** Keys in a file: each name has one, and a file of something else is told. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ConfigError, StorageError } from '../errors.js';
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
  const owners = () => Promise.all([ann, bob, 'x'].map((key) => keys.ownerOf(key)));
  expect(await owners()).toEqual(['ann', 'bob', undefined]);
});

test('a key that is added or removed counts at once, and a damaged file changes nothing', async () => {
  const path = join(here, 'changing.json');
  const ann = await addKey(path, 'ann');
  const keys = await ApiKeys.load(path);
  const bob = await addKey(path, 'bob');
  const owners = () => Promise.all([ann, bob].map((key) => keys.ownerOf(key)));
  expect(await owners()).toEqual(['ann', 'bob']);
  const both = readFileSync(path, 'utf8');
  writeFileSync(path, both.slice(0, -9));
  expect(await owners()).toEqual(['ann', 'bob']);
  rmSync(path);
  expect(await owners()).toEqual(['ann', 'bob']);
  const { keys: entries } = JSON.parse(both) as { keys: unknown[] };
  writeFileSync(path, JSON.stringify({ keys: entries.slice(1) }));
  expect(await owners()).toEqual([undefined, 'bob']);
  writeFileSync(path, '{"keys":[]}');
  expect(await owners()).toEqual([undefined, undefined]);
});

test('of keys that are added at once none is lost', async () => {
  const path = join(here, 'together.json');
  const names = ['ann', 'bob', 'cyd', 'dan'];
  const added = await Promise.allSettled(names.map((name) => addKey(path, name)));
  const keys = await ApiKeys.load(path);
  for (const [i, outcome] of added.entries()) {
    if (outcome.status === 'fulfilled') expect(await keys.ownerOf(outcome.value)).toBe(names[i]);
    else expect(outcome.reason).toBeInstanceOf(StorageError);
  }
  expect(added.some(({ status }) => status === 'fulfilled')).toBe(true);
  expect(existsSync(`${path}.lock`)).toBe(false);
});

test('the folder of the keys is not made for them', async () => {
  await expect(addKey(join(here, 'none', 'keys.json'), 'ann')).rejects.toThrow(
    /Could not write .*keys\.json: /,
  );
  expect(existsSync(join(here, 'none'))).toBe(false);
});

test('a byte order mark before them is no fault', async () => {
  const path = join(here, 'marked.json');
  const key = await addKey(path, 'ann');
  writeFileSync(path, `\ufeff${readFileSync(path, 'utf8')}`);
  expect(await (await ApiKeys.load(path)).ownerOf(key)).toBe('ann');
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
