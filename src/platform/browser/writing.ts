/**
 * Atomic writing of files and folders.
 *
 * A file is written under a temporary name next to its target, then moved over it in one step. Folders cannot be moved, so they use a journal: a
 * folder is filled under a temporary name, and a note with that name, moved into place in one step, commits it. Its files are then moved to the
 * target one by one; after a crash or a failed move, the next reader that finds the note continues. A lock keeps other writers away, so its holder
 * may remove what ended writers have left.
 */
import { StorageError } from '../../errors.js';
import type { WriteBytes } from '../platform.js';
import { readFolder, readText, statsOf } from './files.js';
import { basename, dirname, join } from './paths.js';
import { SystemError } from './volume.js';
import { placeOf } from './volumes.js';

/** See `Platform.writeFileAtomic`. */
export async function writeFileAtomic(path: string, data: Uint8Array | string): Promise<void> {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
  await streamFileAtomic(path, (write) => write(bytes));
}

/** See `Platform.streamFileAtomic`. */
export async function streamFileAtomic(
  path: string,
  produce: (write: WriteBytes) => Promise<void>,
): Promise<void> {
  const temporary = temporaryName(path);
  try {
    const { volume } = await placeOf(path);
    const writer = await volume.openWriter(join(temporary));
    try {
      let at = 0;
      await produce(async (bytes, position) => {
        writer.write(bytes, position ?? at);
        if (position === undefined) at += bytes.byteLength;
      });
    } finally {
      writer.close();
    }
    await volume.move(join(temporary), join(path));
  } catch (error) {
    await remove(temporary).catch(() => {});
    throw inWords(path, error);
  }
}

/** See `Platform.writeFolderAtomic`. `fill` may create files only, no subfolders. */
export async function writeFolderAtomic(
  folder: string,
  fill: (temporaryFolder: string) => Promise<void>,
): Promise<void> {
  await locked(folder, async () => {
    const temporary = temporaryName(folder);
    try {
      await finish(folder);
      await removeAbandoned(folder);
      await makeFolder(temporary);
      await fill(temporary);
      const names = (await readFolder(temporary)).map(({ name }) => name);
      await writeFileAtomic(noteOf(folder), JSON.stringify({ temporary, names } satisfies Note));
      await finish(folder);
    } catch (error) {
      // A folder that the note names is the new version, even if some files have been moved already.
      const isNoted = await readNote(folder).then(
        (note) => note?.temporary === temporary,
        () => true,
      );
      if (!isNoted) await remove(temporary).catch(() => {});
      throw inWords(folder, error);
    }
  });
}

/** Removes temporaries of writers of the folder that did not finish. */
async function removeAbandoned(folder: string): Promise<void> {
  const beside = dirname(folder);
  const prefix = `.${basename(folder)}.`;
  for (const { name } of await readFolder(beside).catch(() => [])) {
    const isTemporary = name.startsWith(prefix) && TEMPORARY.test(name.slice(prefix.length));
    if (isTemporary) await remove(join(beside, name));
  }
}

/** See `Platform.recoverFolder`. */
export async function recoverFolder(folder: string): Promise<void> {
  if (await isThere(noteOf(folder))) await locked(folder, () => finish(folder));
}

/** The journal of a replacement: the files of the folder, and the temporary folder of those not moved yet. */
interface Note {
  readonly temporary: string;
  readonly names: readonly string[];
}

/** Completes the replacement in the note, if there is one; part of it may have been done before. */
async function finish(folder: string): Promise<void> {
  const note = await readNote(folder);
  if (!note) return;
  const { temporary, names } = note;
  await makeFolder(folder);
  const { volume } = await placeOf(folder);
  for (const { name } of await readFolder(folder)) {
    if (!names.includes(name)) await remove(join(folder, name));
  }
  for (const name of names) {
    const from = join(temporary, name);
    if (await isThere(from)) await volume.move(from, join(folder, name));
  }
  await remove(noteOf(folder));
  await remove(temporary);
}

function noteOf(folder: string): string {
  return join(dirname(folder), `.${basename(folder)}.heddle-next`);
}

async function readNote(folder: string): Promise<Note | undefined> {
  const text = await readText(noteOf(folder)).catch((error: unknown) => {
    if (error instanceof SystemError) return undefined;
    throw error;
  });
  return text === undefined ? undefined : (JSON.parse(text) as Note);
}

const TEMPORARY = /^[0-9a-f-]{36}\.heddle-tmp$/;

function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${crypto.randomUUID()}.heddle-tmp`);
}

async function locked(folder: string, use: () => Promise<void>): Promise<void> {
  // An insecure context has no locks, and no files that other pages could see.
  if (!navigator.locks) return use();
  await navigator.locks.request(`heddle folder ${join(folder)}`, use);
}

/** See `Platform.makeFolder`. */
export async function makeFolder(folder: string): Promise<string | undefined> {
  const place = await placeOf(folder);
  if ((await place.volume.find(place.path)) === 'folder') return undefined;
  const above = place.path === '/' ? undefined : await makeFolder(dirname(folder));
  await place.volume.makeFolder(place.path);
  return above ?? folder;
}

/** Removes a file, or a folder with all that is in it, if it exists. */
export async function remove(path: string): Promise<void> {
  const place = await placeOf(path);
  await place.volume.remove(place.path);
}

async function isThere(path: string): Promise<boolean> {
  return statsOf(path).then(
    () => true,
    () => false,
  );
}

/** Explanations of the browser's errors, with what to do. */
const MEANINGS: Readonly<Record<string, string>> = {
  QuotaExceededError:
    'the browser gives this site no more space. Remove models that are not needed, or free space on the disk.',
  NoModificationAllowedError: 'another tab is writing it. Close that one, or wait until it is done.',
  InvalidStateError: 'the site’s data were removed meanwhile. Load the page again.',
};

/** See `Platform.inWords`: a `DOMException` or `SystemError` as a `StorageError`; any other error unchanged. */
export function inWords(path: string, error: unknown): unknown {
  const meaning = error instanceof DOMException ? MEANINGS[error.name] : undefined;
  if (meaning === undefined && !(error instanceof SystemError)) return error;
  return new StorageError(`Could not write ${path}: ${meaning ?? (error as SystemError).message}`, {
    cause: error,
  });
}
