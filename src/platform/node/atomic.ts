/**
 * Atomic writes of files and folders.
 *
 * Everything is first written under a temporary name beside its target (`.NAME.PID-RANDOM.heddle-tmp`), synced to the disk,
 * and then renamed. For a file this is enough: rename replaces it atomically.
 *
 * A rename cannot replace a folder that is not empty, so a folder takes four steps:
 *
 *   1. fill and sync the temporary folder        a crash leaves: the old folder in its place
 *   2. rename NAME to .NAME.heddle-previous      a crash leaves: the old folder, as .NAME.heddle-previous
 *   3. rename the temporary to NAME              a crash leaves: the new folder in its place
 *   4. remove .NAME.heddle-previous
 *
 * NAME is missing only between steps 2 and 3; `recoverFolder` undoes step 2. Call it before reading a folder that
 * `writeFolderAtomic` writes, and before creating a folder of that name. `writeFolderAtomic` itself starts with it. It then
 * removes what earlier crashes left: a `.NAME.heddle-previous` from before step 4, and the temporaries of processes that have ended.
 *
 * Replacing a folder removes all of its files, so each written folder gets a marker file, and a folder that is not empty and has
 * no marker is never replaced: a mistyped path cannot delete the user's files.
 *
 * A target should have one writer at a time; it may have any number of readers. Two writers never mix their files: the last
 * one wins, or one of them fails with a `StorageError`.
 */

import { randomBytes } from 'node:crypto';
import { fsyncSync, rmSync, type Stats, writeSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { expectText } from '../../arguments.js';
import { StorageError } from '../../errors.js';
import type { WriteBytes } from '../platform.js';
import { makeFolder } from './make-folder.js';

/** The marker file of folders that Heddle may replace, and its text. */
const MARKER = '.written-by-heddle';
const MARKER_TEXT = 'Heddle writes and replaces this folder as a whole: keep nothing of your own in it.\n';

/**
 * Writes a file atomically. An existing file keeps its permissions, and is unchanged on failure.
 * A symbolic link is replaced, not followed.
 *
 * @param data bytes, or text that is written as UTF-8
 * @throws StorageError when the file cannot be written
 */
export async function writeFileAtomic(path: string, data: Uint8Array | string): Promise<void> {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
  await streamFileAtomic(path, (write) => write(bytes));
}

/**
 * Writes a file atomically in pieces: `produce` may call `write` any number of times, and must await each call.
 *
 * @throws StorageError when the file cannot be written, and whatever `produce` throws
 */
export async function streamFileAtomic(
  path: string,
  produce: (write: WriteBytes) => Promise<void>,
): Promise<void> {
  expectText(path, 'the path is');
  await throughTemporary(path, async (temporary) => {
    const old = await statIfThere(path);
    // Renaming over a device such as /dev/null would replace it with a regular file.
    if (old !== undefined && !old.isFile()) {
      throw new StorageError(`Could not write ${path}: it exists and is not a file. Choose another name.`);
    }
    const handle = await open(temporary, 'wx', old === undefined ? 0o666 : old.mode & 0o777);
    try {
      await produce((bytes, position) => writeAll(handle, bytes, position));
      if (waitsInPlace) fsyncSync(handle.fd);
      else await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    await sync(dirname(path));
  });
}

/**
 * Replaces a folder atomically: `fill` gets the path of an empty temporary folder, which then replaces `folder`;
 * **none of the old files is kept**. Missing parent folders are created.
 *
 * @throws StorageError when it cannot be written, when `folder` contains the working directory, or files that this function
 *   has not written; and any error of `fill`
 */
export async function writeFolderAtomic(
  folder: string,
  fill: (temporaryFolder: string) => Promise<void>,
): Promise<void> {
  expectText(folder, 'the path is');
  const target = resolve(folder);
  if (holdsWorkingDirectory(target)) {
    throw new StorageError(
      `Could not write ${folder}: it holds the working directory, and writing replaces it. Name another folder.`,
    );
  }
  try {
    await makeFolder(dirname(target));
    await recoverFolder(target);
    await requireReplaceable(target);
    await rm(previousName(target), { recursive: true, force: true });
  } catch (error) {
    throw inWords(folder, error);
  }
  await throughTemporary(target, async (temporary) => {
    const mode = (await statIfThere(target))?.mode ?? 0o777;
    await mkdir(temporary, { mode: (mode & 0o777) | 0o700 });
    await fill(temporary);
    await writeFile(join(temporary, MARKER), MARKER_TEXT);
    await syncAllIn(temporary);
    // Filling may have taken an hour, and another process may have created the folder meanwhile.
    await requireReplaceable(target);
    await swapIn(temporary, target);
  });
}

/**
 * Restores a folder that a crash in `writeFolderAtomic` left as `.NAME.heddle-previous`. Does nothing if there is nothing
 * to restore, and is safe while another process writes the folder.
 *
 * @throws StorageError when the folder is missing and its previous version cannot be renamed
 */
export async function recoverFolder(folder: string): Promise<void> {
  expectText(folder, 'the path is');
  const target = resolve(folder);
  try {
    // Renaming onto a folder with something in it fails, so a complete folder is safe without a check that could be outdated.
    await rename(previousName(target), target);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || (await statIfThere(target)) !== undefined) return;
    throw inWords(folder, error);
  }
}

async function requireReplaceable(target: string): Promise<void> {
  if ((await statIfThere(target)) === undefined) return;
  const names = await readdir(target);
  if (names.length === 0 || names.includes(MARKER)) return;
  throw new StorageError(
    `Could not write ${target}: writing replaces the whole folder, and this one has ${names.length} entr${names.length === 1 ? 'y' : 'ies'} that Heddle did not write, such as ${names[0]}. Choose another name, or move them.`,
  );
}

async function swapIn(temporary: string, target: string): Promise<void> {
  const previous = previousName(target);
  for (;;) {
    await renameIfThere(target, previous);
    try {
      await rename(temporary, target);
      break;
    } catch (error) {
      // A reader has meanwhile recovered the old folder, which must be moved aside again.
      if (codeOf(error) === 'ENOTEMPTY' || codeOf(error) === 'EEXIST') continue;
      await renameIfThere(previous, target);
      throw error;
    }
  }
  await sync(dirname(target));
  // The new folder is in place; the next write removes what could not be removed now, or reports the reason.
  await rm(previous, { recursive: true, force: true }).catch(() => {});
}

/** Runs `use` with a new temporary name beside `path`, and removes what is left of that name. */
async function throughTemporary(path: string, use: (temporary: string) => Promise<void>): Promise<void> {
  const name = `.${basename(path)}.${process.pid}-${randomBytes(6).toString('hex')}.heddle-tmp`;
  const temporary = join(dirname(path), name);
  inUse.set(name, resolve(temporary));
  try {
    // Cleanup is optional: files of other users, or a folder that cannot be listed, must not prevent the write.
    await removeAbandoned(path).catch(() => {});
    await use(temporary);
  } catch (error) {
    // A failing removal must not hide the error that stopped the write.
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw withoutTemporary(temporary, path, inWords(path, error));
  } finally {
    inUse.delete(name);
  }
}

/** Replaces the temporary path in the message of a `StorageError` by the final path. */
function withoutTemporary(temporary: string, path: string, error: unknown): unknown {
  if (!(error instanceof StorageError) || !error.message.includes(temporary)) return error;
  return new StorageError(error.message.replaceAll(temporary, path), { cause: error.cause });
}

/** The temporary names that this process is writing to, with their paths. */
const inUse = new Map<string, string>();

// Removes them when the process exits during a write, for example after Ctrl-C.
process.on('exit', () => {
  for (const temporary of inUse.values()) rmSync(temporary, { recursive: true, force: true });
});

/** Removes the temporaries of `path` whose writers have ended. */
async function removeAbandoned(path: string): Promise<void> {
  const prefix = `.${basename(path)}.`;
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(prefix)) continue;
    const writer = /^(\d+)-[0-9a-f]{12}\.heddle-tmp$/.exec(name.slice(prefix.length))?.[1];
    if (writer === undefined || isBeingWritten(name, Number(writer))) continue;
    await rm(join(dirname(path), name), { recursive: true, force: true });
  }
}

function isBeingWritten(name: string, writer: number): boolean {
  // A restarted container may assign the same process id.
  if (writer === process.pid) return inUse.has(name);
  try {
    process.kill(writer, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== 'ESRCH';
  }
}

/** Node takes at most 2^31 - 1 bytes in one call, and a disk that fills up takes only some of them. */
async function writeAll(handle: FileHandle, bytes: Uint8Array, position?: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const part = bytes.subarray(done, done + 2 ** 30);
    const at = position === undefined ? null : position + done;
    done += waitsInPlace
      ? writeSync(handle.fd, part, 0, part.byteLength, at)
      : (await handle.write(part, 0, part.byteLength, at)).bytesWritten;
  }
}

/** See `waitInPlace`. */
let waitsInPlace = false;

/**
 * Has this thread wait for the disk itself from now on when it writes a file. All threads of a process share four others for their files and
 * for whatever else takes long, which are not to wait for one disk all together: a thread that does nothing but write waits itself.
 */
export function waitInPlace(): void {
  waitsInPlace = true;
}

async function syncAllIn(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile() || entry.isDirectory()) await sync(join(entry.parentPath, entry.name));
  }
  await sync(folder);
}

/** Waits until a file's bytes, or a folder's entries, are on the disk. */
async function sync(path: string): Promise<void> {
  try {
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    // Windows and some network filesystems sync no folders; the write is as safe as it can be there.
    if (!['EACCES', 'EBADF', 'EINVAL', 'EISDIR', 'ENOTSUP', 'EPERM'].includes(codeOf(error) ?? ''))
      throw error;
  }
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function previousName(target: string): string {
  return join(dirname(target), `.${basename(target)}.heddle-previous`);
}

async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
}

function holdsWorkingDirectory(target: string): boolean {
  const inside = relative(target, process.cwd());
  return inside !== '..' && !inside.startsWith(`..${sep}`) && !isAbsolute(inside);
}

/** Explanations of system errors, with what to do. */
const meanings: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full. Free some space, or write to another disk.',
  EDQUOT: 'the disk quota is used up. Free some space, or write to another disk.',
  EFBIG: 'the file is larger than this filesystem or the process limits allow. Write to another disk.',
  EACCES: 'this user has no permission to write there. Change the permissions, or choose another folder.',
  EPERM: 'this user has no permission to write there. Change the permissions, or choose another folder.',
  EROFS: 'the filesystem is read-only. Choose a folder on another one.',
  ENOENT: 'a folder on the way to it does not exist, or was removed meanwhile. Make it first.',
  EEXIST: 'a file of this name is there already. Move it, or choose another name.',
  ENOTDIR: 'a file stands where a folder is needed. Move it, or choose another folder.',
  ENAMETOOLONG: 'the name is too long. Choose a shorter one.',
};

/** A system error about `path` as a `StorageError`; any other error as it is. */
export function inWords(path: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === undefined || !(error instanceof Error)) return error;
  const meaning = meanings[code] ?? `${error.message}.`;
  return new StorageError(`Could not write ${path}: ${meaning}`, { cause: error });
}

/** The code of a system error, such as ENOSPC; of any other error, undefined. */
function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('syscall' in error)) return undefined;
  return (error as NodeJS.ErrnoException).code;
}
