/** Removing a document deletes what was uploaded, and no file of a person. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Archive } from './archive.js';
import { removeDocuments } from './remove.js';
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
  const remove = async (from: Archive, name: string) =>
    (await removeDocuments(from, [await from.document(name)]))[0];
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

  // A copy has the uploads that were copied, and no others: of a copy of the database alone, those of the original stay.
  const copy = join(root, 'copy');
  cpSync(place, copy, { recursive: true });
  const bare = join(root, 'bare');
  cpSync(join(place, 'database'), join(bare, 'database'), { recursive: true });
  const copied = await Archive.open({ place: copy });
  expect(await remove(copied, 'copied.txt')).toEqual([join(copy, 'documents', 'copied.txt')]);
  await copied.close();
  const other = await Archive.open({ place: bare });
  expect(await remove(other, 'copied.txt')).toEqual([join(documents, 'copied.txt')]);
  await other.close();
  expect(existsSync(join(documents, 'copied.txt'))).toBe(true);
});

test('uploads of a folder that is moved are found, looked at again and deleted where they are now', async () => {
  const before = join(root, 'before');
  const archive = await Archive.open({ place: before, create: true });
  for (const name of ['one', 'two', 'gone']) await upload(archive, `${name}.txt`, `It is ${name}.`);
  await removeDocuments(archive, [await archive.document('gone.txt')]);
  await archive.close();
  const after = join(root, 'after');
  renameSync(before, after);
  const moved = await Archive.open({ place: after });
  const path = (name: string): string => join(after, 'documents', name);
  expect((await moved.documents()).map(({ paths }) => paths)).toEqual([[path('one.txt')], [path('two.txt')]]);
  expect(await moved.roots()).toEqual([join(after, 'documents')]);
  expect(await scan(moved, join(after, 'documents'))).toMatchObject({ known: 2, gone: 0, problems: [] });
  expect(await removeDocuments(moved, [await moved.document('one.txt')])).toEqual([[]]);
  expect([existsSync(path('one.txt')), existsSync(path('two.txt'))]).toEqual([false, true]);
  await moved.close();
});
