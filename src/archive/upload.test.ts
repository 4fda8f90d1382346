/** Uploads that fail at the end, where the file system has no links. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import type { Archive } from './archive.js';
import { addDocument } from './upload.js';

const failing = vi.hoisted(() => ({ rename: false }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const refusal = (code: string): Error => Object.assign(new Error(`${code}: played`), { code });
  return {
    ...real,
    link: async () => {
      throw refusal('EPERM');
    },
    rename: async (from: string, to: string) => {
      if (failing.rename) throw refusal('EIO');
      return real.rename(from, to);
    },
  };
});

const place = mkdtempSync(join(tmpdir(), 'heddle-upload-'));
afterAll(() => rmSync(place, { recursive: true, force: true }));

/** An archive that has no documents, and whose database takes none. */
const archive = {
  place,
  database: { query: async () => [] },
  addRoot: async () => {
    throw new Error('the disk is full');
  },
} as unknown as Archive;

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

test('what gets no name, or no place in the database, leaves nothing, and what is there stays', async () => {
  const documents = join(place, 'documents');
  mkdirSync(documents);
  writeFileSync(join(documents, 'a.txt'), 'first');
  const added = () => addDocument(archive, 'a.txt', bytesOf('second'));
  await expect(added()).rejects.toThrow('the disk is full');
  expect(readdirSync(documents)).toEqual(['a.txt']);
  failing.rename = true;
  await expect(added()).rejects.toThrow('EIO');
  expect(readdirSync(documents)).toEqual(['a.txt']);
  expect(readFileSync(join(documents, 'a.txt'), 'utf8')).toBe('first');
});
