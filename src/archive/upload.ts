/**
 * Documents that come as bytes, such as over HTTP. They lie in a folder of the archive's own, which is looked through as those that a person
 * has added are; a file is there whole or not at all.
 */
import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, link, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { makeFolder } from '../checkpoint/index.js';
import { ArchiveError, ArchiveUnavailableError } from '../errors.js';
import type { Archive } from './archive.js';
import { expectRoom, ROOM } from './disk-room.js';
import type { DocumentEntry } from './entries.js';
import { isReadable, kindOf } from './formats/kind.js';
import type { Kind } from './formats/page.js';
import { uploadsOf } from './places.js';
import { scan } from './scan.js';

/** Endings of names that say nothing of what a file is. */
const ENDINGS: Readonly<Record<Kind, string>> = {
  pdf: '.pdf',
  docx: '.docx',
  html: '.html',
  markdown: '.md',
  text: '.txt',
};
/** Bytes that a file's name has at most; file systems allow 255, and a number may be added. */
const LONGEST_NAME = 200;

/** Files that are being written: their names are hidden, so that they are not read. */
const TEMPORARY = /^\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\..*)?$/;
/** What has not been written to for so long belongs to nobody any more, in milliseconds. */
const ABANDONED = 3_600_000;

/** What became of it: a document that is to be read now, or one that the archive had. */
export interface AddedDocument {
  readonly document: DocumentEntry;
  readonly isNew: boolean;
}

/**
 * Adds a document of this name. `size` says how many bytes it has, if that is known. Throws `UnreadableError` for what is of no format that
 * can be read, `ArchiveUnavailableError` where the disk is full, and whatever `bytes` throws; then nothing is left of it.
 */
export async function addDocument(
  archive: Archive,
  name: string,
  bytes: AsyncIterable<Uint8Array>,
  size = 0,
): Promise<AddedDocument> {
  const folder = uploadsOf(archive);
  await makeFolder(folder);
  await removeAbandoned(folder);
  await expectRoom(folder, ROOM + size);
  const clean = fileNameOf(name);
  const temporary = join(folder, `.${randomUUID()}${extname(clean)}`);
  try {
    const content = await written(temporary, folder, bytes);
    const kind = await kindOf(temporary);
    const known = await documentOf(archive, content);
    if (known && known.state !== 'failed') return { document: known, isNew: false };
    const path = await placed(temporary, folder, isReadable(clean) ? clean : `${clean}${ENDINGS[kind]}`);
    try {
      await archive.addRoot(folder);
      const { problems } = await scan(archive, path);
      if (problems[0]) throw new ArchiveError(`${clean} cannot be added: ${problems[0].why}`);
    } catch (error) {
      // A file that the archive does not know would be taken for a person's own when the folder is looked through.
      const isKnown = await documentOf(archive, content).catch(() => true);
      if (!isKnown) await rm(path, { force: true });
      throw error;
    }
    await archive.putUpload(path, content);
    return { document: (await documentOf(archive, content))!, isNew: true };
  } finally {
    await rm(temporary, { force: true });
  }
}

async function documentOf(archive: Archive, content: string): Promise<DocumentEntry | undefined> {
  const [found] = await archive.database.query(
    'SELECT 1 FROM archive_documents d WHERE content = $1 AND EXISTS (SELECT 1 FROM archive_files f WHERE f.content = d.content)',
    [content],
  );
  return found === undefined ? undefined : archive.document(content);
}

/** Writes a file, and returns the SHA-256 of its bytes. */
async function written(path: string, folder: string, bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  const file = await open(path, 'wx', 0o600);
  try {
    for await (const part of bytes) {
      hash.update(part);
      await writeAll(file, part);
    }
    await file.sync();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    throw new ArchiveUnavailableError(
      `the disk of ${folder} is full: make room, and add the document again`,
      {
        cause: error,
      },
    );
  } finally {
    await file.close();
  }
  return hash.digest('hex');
}

async function writeAll(file: FileHandle, part: Uint8Array): Promise<void> {
  for (let at = 0; at < part.length; ) at += (await file.write(part, at)).bytesWritten;
}

/** Removes what processes have left that were killed while they wrote it. */
async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!TEMPORARY.test(name)) continue;
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined);
    if (found && found.mtimeMs < Date.now() - ABANDONED) await rm(path, { force: true });
  }
}

/** Gives a file its name, or where that is another's, the name with a number. A file that is there is never replaced. */
async function placed(temporary: string, folder: string, name: string): Promise<string> {
  const ending = extname(name);
  for (let number = 1; ; number++) {
    const path = join(folder, number === 1 ? name : `${basename(name, ending)} (${number})${ending}`);
    try {
      await link(temporary, path);
      await rm(temporary);
      return path;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') continue;
      // Where the file system has no links, the name is taken before the file gets it.
      const isTaken = await open(path, 'wx', 0o600).then(
        (file) => file.close().then(() => false),
        (reason: NodeJS.ErrnoException) => {
          if (reason.code === 'EEXIST') return true;
          throw reason;
        },
      );
      if (isTaken) continue;
      await rename(temporary, path).catch(async (reason: unknown) => {
        await rm(path, { force: true });
        throw reason;
      });
      return path;
    }
  }
}

/** The last part of a path, without what file systems or terminals take otherwise. */
function fileNameOf(name: string): string {
  const last = name.normalize('NFC').split(/[/\\]/).at(-1)!;
  const plain = last
    .replace(/[\p{Cc}\ufffd<>:"|?*]/gu, ' ')
    .trim()
    .replace(/^\.+/, '')
    .trim();
  const ending = extname(plain).slice(0, 20);
  let stem = plain.slice(0, plain.length - extname(plain).length);
  while (Buffer.byteLength(stem + ending) > LONGEST_NAME) stem = [...stem].slice(0, -1).join('');
  return `${stem || 'document'}${ending}`;
}
