/**
 * What an archive in a folder was made from, in a file beside its database. Where the database is gone or damaged, nothing else tells it, and an
 * empty one in its place would look like an archive whose documents are gone.
 */
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { writeFileAtomic } from '../../checkpoint/index.js';
import { heddleCall } from '../../command-line.js';
import { ArchiveUnavailableError } from '../../errors.js';

/** In the archive's folder. */
const NAME = 'origins.json';

/** What an archive can be made from again. */
export interface Origins {
  /** Of the text search. */
  readonly language: string;
  /** Files and folders that were added. */
  readonly added: readonly string[];
}

/** Whether there is, or was, an archive in the folder. */
export function hasOrigins(folder: string): boolean {
  return existsSync(join(folder, NAME));
}

/** Writes them where they have changed. Throws `StorageError`. */
export async function writeOrigins(folder: string, origins: Origins): Promise<void> {
  const text = `${JSON.stringify(origins, null, 2)}\n`;
  const path = join(folder, NAME);
  if ((await readFile(path, 'utf8').catch(() => undefined)) !== text) await writeFileAtomic(path, text);
}

/** How many are named in an error. */
const NAMED = 10;

/** The error of an archive whose database cannot be used any more, with how the archive is made again. */
export function lostDatabase(folder: string, why: string, cause?: unknown): ArchiveUnavailableError {
  const here = resolve(folder);
  const aside = `${here}-damaged`;
  const { language = 'english', added = [] } = originsIn(folder);
  const paths = added.map((path) => (path.startsWith(here + sep) ? aside + path.slice(here.length) : path));
  const isListed = paths.length > NAMED;
  const call = heddleCall(
    'archive',
    'add',
    ...(isListed || paths.length === 0 ? ['FILES-AND-FOLDERS'] : paths),
    '--archive',
    folder,
    ...(language === 'english' ? [] : ['--language', language]),
  );
  return new ArchiveUnavailableError(
    `the database of the archive ${folder} ${why}; no new one was made in its place. Restore ${join(folder, 'database')} from a backup. Without one, rename ${folder} to ${aside} and make the archive again from its documents: ${call}${isListed ? ` (${join(aside, NAME)} lists them)` : ''}`,
    { cause },
  );
}

function originsIn(folder: string): Partial<Origins> {
  try {
    return JSON.parse(readFileSync(join(folder, NAME), 'utf8')) as Origins;
  } catch {
    return {};
  }
}
