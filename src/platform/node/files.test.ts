/** Files are read as a browser reads them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readText } from './files.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-files-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

test.each([
  ['a byte order mark before it', '\ufeff{}', '{}'],
  ['two of them', '\ufeff\ufeff{}', '\ufeff{}'],
  ['one inside', '{\ufeff}', '{\ufeff}'],
  ['lines of Windows', 'a\r\nb\r\n', 'a\r\nb\r\n'],
])('a text with %s', async (_, written, read) => {
  const path = join(here, 'text');
  writeFileSync(path, written);
  expect(await readText(path)).toBe(read);
  expect(await new Blob([written]).text()).toBe(read);
});
