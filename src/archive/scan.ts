/** Files of what was added: which there are, which have changed, and which are gone. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, opendir, realpath, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Archive } from './archive.js';
import type { FileEntry } from './entries.js';
import { isReadable } from './formats/kind.js';
import { folderOf } from './places.js';

/** What became of the files that were looked at. */
export interface ScanOutcome {
  /** Documents that are to be read now, because they are new or changed. */
  added: number;
  /** Files whose content the archive has already, under another name or unchanged. */
  known: number;
  /** Documents that are forgotten, because their files are gone or have another content. */
  gone: number;
  /** Files that were removed from the archive before, and are not named now. */
  removed: number;
  /** Files that no reader is for. */
  leftOut: string[];
  /** Files that could not be read, and why. */
  problems: { path: string; why: string }[];
}

/** What was looked at so far. */
export interface ScanProgress {
  readonly files: number;
  readonly bytes: number;
}

/**
 * Brings the archive's list of files at and below a path up to date. Links are followed, each folder once. A file that goes away or cannot be
 * read is told, and the rest goes on. Throws the signal's reason between two files.
 */
export async function scan(
  archive: Archive,
  root: string,
  { signal, progress = () => {} }: { signal?: AbortSignal; progress?: (now: ScanProgress) => void } = {},
): Promise<ScanOutcome> {
  const outcome: ScanOutcome = { added: 0, known: 0, gone: 0, removed: 0, leftOut: [], problems: [] };
  const path = resolve(root);
  const removed = await archive.removedBelow(path);
  if (removed.delete(path)) await archive.takeBack(path);
  const before = new Map((await archive.filesBelow(path)).map((file) => [file.path, file]));
  const seen = new Set<string>();
  const passed: string[] = [];
  let files = 0;
  let bytes = 0;
  const own = await realpath(folderOf(archive.place)).catch(() => undefined);
  for await (const found of walk(path, own, outcome, passed)) {
    signal?.throwIfAborted();
    if (removed.has(found)) {
      outcome.removed++;
      continue;
    }
    seen.add(found);
    progress({ files: ++files, bytes });
    try {
      const entry = await entryOf(found);
      const old = before.get(found);
      if (old?.content && isUnchanged(old, entry)) {
        outcome.known++;
        continue;
      }
      const content = await hashOf(found, (read) => progress({ files, bytes: bytes + read }), signal);
      bytes += entry.size;
      if (await archive.putFile(entry, content, basename(found))) outcome.added++;
      else outcome.known++;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      const { code } = error as NodeJS.ErrnoException;
      if (code === undefined || !SYSTEM.test(code)) throw error;
      const why = code === 'ENOENT' ? 'it is gone' : reasonOf(error);
      outcome.problems.push({ path: found, why });
      if (code === 'ENOENT') seen.delete(found);
      else await archive.putProblem(found, why);
    }
  }
  // What lies in a folder that was not gone through, as uploads do, is not known to be gone.
  const gone = [...before.keys()].filter(
    (each) => !seen.has(each) && !passed.some((folder) => each.startsWith(`${folder}/`)),
  );
  if (gone.length > 0) outcome.gone = await archive.removeFiles(gone);
  else await archive.deleteOrphans();
  return outcome;
}

/** Codes of errors of the file system. */
const SYSTEM = /^E[A-Z]+$/;

/** What a file is now. Throws system errors. */
export async function entryOf(path: string): Promise<FileEntry> {
  const { size, mtimeMs, ctimeMs } = await stat(path);
  return { path, size, modified: mtimeMs, changed: ctimeMs };
}

/** Whether a file has the size and the times that it had. */
export function isUnchanged(a: FileEntry, b: FileEntry): boolean {
  return a.size === b.size && a.modified === b.modified && a.changed === b.changed;
}

/** SHA-256 of a file's bytes, in hexadecimal digits. Throws system errors. */
export async function hashOf(
  path: string,
  progress: (bytes: number) => void = () => {},
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash('sha256');
  let read = 0;
  for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20, ...(signal && { signal }) })) {
    hash.update(bytes as Buffer);
    read += (bytes as Buffer).length;
    progress(read);
  }
  return hash.digest('hex');
}

/** Files at and below a path. Folders that it does not go through are put into `passed`: those that cannot be read, and the archive's own below the path. */
async function* walk(
  root: string,
  own: string | undefined,
  outcome: ScanOutcome,
  passed: string[],
): AsyncGenerator<string> {
  const kind = await kindAt(root);
  if (kind === 'file') {
    yield root;
    return;
  }
  if (kind !== 'folder') {
    if (kind === 'other') outcome.problems.push({ path: root, why: 'it is neither a file nor a folder' });
    else if (kind !== 'missing') {
      outcome.problems.push({ path: root, why: kind.why });
      passed.push(root);
    } else outcome.problems.push({ path: root, why: 'there is nothing' });
    return;
  }
  const visited = new Set<string>();
  const waiting = [root];
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    const names: string[] = [];
    try {
      // A folder that several links lead to, its own content among them, is read once.
      const real = await realpath(folder);
      if (visited.has(real)) continue;
      if (real === own && folder !== root) {
        passed.push(folder);
        continue;
      }
      visited.add(real);
      for await (const { name } of await opendir(folder)) names.push(name);
    } catch (error) {
      passed.push(folder);
      outcome.problems.push({ path: folder, why: reasonOf(error) });
      continue;
    }
    names.sort();
    const folders: string[] = [];
    for (const name of names) {
      // Hidden ones are not meant.
      if (name.startsWith('.')) continue;
      const path = join(folder, name);
      const there = await kindAt(path);
      if (there === 'folder') folders.push(path);
      else if (there === 'file') {
        if (name.includes('\ufffd'))
          outcome.problems.push({ path, why: 'its name is no valid UTF-8: rename it' });
        else if (isReadable(name)) yield path;
        else outcome.leftOut.push(path);
      } else if (there === 'missing') {
        if (!name.includes('\ufffd')) outcome.problems.push({ path, why: 'it is a link to nothing' });
        else outcome.problems.push({ path, why: 'its name is no valid UTF-8: rename it' });
      } else if (typeof there === 'object') outcome.problems.push({ path, why: there.why });
      else outcome.leftOut.push(path);
    }
    waiting.push(...folders.reverse());
  }
}

async function kindAt(path: string): Promise<'file' | 'folder' | 'other' | 'missing' | { why: string }> {
  try {
    const found = await stat(path);
    return found.isFile() ? 'file' : found.isDirectory() ? 'folder' : 'other';
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return 'missing';
    if (code === 'ELOOP' && (await lstat(path).catch(() => undefined)))
      return { why: 'it is a link to itself' };
    return { why: reasonOf(error) };
  }
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'EACCES' || code === 'EPERM') return 'it may not be read: its permissions forbid it';
  if (code === 'ENAMETOOLONG') return 'its path is longer than the system takes';
  return message;
}
