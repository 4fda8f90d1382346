/** Removing a document deletes what was uploaded, and no file of a person. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Archive } from './archive.js';
import { removeDocument } from './remove.js';
import { scan } from './scan.js';
import { addDocument } from './upload.js';

const root = realpathSync(mkdtempSync(join(tmpdir(), 'heddle-remove-')));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const place = join(root, 'library');
const documents = join(place, 'documents');
const upload = (archive: Archive, name: string, text: string) =>
  addDocument(
    archive,
    name,
    (async function* () {
      yield Buffer.from(text);
    })(),
  );

test("a person's files in the folder of uploads stay, and so do uploads that were changed or are another archive's", async () => {
  mkdirSync(documents, { recursive: true });
  const own = join(documents, 'own.txt');
  writeFileSync(own, 'The only copy of it.');
  const archive = await Archive.open({ place, create: true });
  await archive.addRoot(documents);
  await scan(archive, documents);
  for (const name of ['sent', 'edited', 'copied']) await upload(archive, `${name}.txt`, `It was ${name}.`);
  // What is scanned again is still an upload.
  await scan(archive, documents);
  const remove = async (from: Archive, name: string) => removeDocument(from, await from.document(name));
  expect(await remove(archive, 'own.txt')).toEqual([own]);
  expect(existsSync(own)).toBe(true);
  expect(await remove(archive, 'sent.txt')).toEqual([]);
  expect(existsSync(join(documents, 'sent.txt'))).toBe(false);
  const edited = join(documents, 'edited.txt');
  writeFileSync(edited, 'A person has written into it.');
  expect(await remove(archive, 'edited.txt')).toEqual([edited]);
  expect(existsSync(edited)).toBe(true);
  // Of what a person puts in the place of an upload, nothing is deleted either.
  const { document } = await upload(archive, 'replaced.txt', 'It was replaced.');
  const replaced = join(documents, 'replaced.txt');
  rmSync(replaced);
  writeFileSync(replaced, 'Something else.');
  await scan(archive, documents);
  expect((await archive.document('replaced.txt')).content).not.toBe(document.content);
  expect(await remove(archive, 'replaced.txt')).toEqual([replaced]);
  await archive.close();

  const copy = join(root, 'copy');
  cpSync(place, copy, { recursive: true });
  const copied = await Archive.open({ place: copy });
  expect(await remove(copied, 'copied.txt')).toEqual([join(documents, 'copied.txt')]);
  expect(existsSync(join(documents, 'copied.txt'))).toBe(true);
  await copied.close();
});
