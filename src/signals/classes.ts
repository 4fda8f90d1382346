/** A folder of examples by class: each subfolder is a class, named after it, and the files in it are its examples. */
import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../errors.js';

/** The examples of a folder with their classes. */
export interface ClassFolder {
  /** Sorted by name. */
  readonly classes: readonly string[];
  readonly files: readonly { readonly path: string; readonly label: number }[];
  /** Paths of other files, and subfolders without examples. */
  readonly leftOut: readonly string[];
}

/** Files of all kinds of examples. */
const KNOWN = /\.(txt|md|png|jpe?g|wav)$/i;

/**
 * Finds the files whose names match `pattern`, without hidden ones; links are followed. Undefined if `path` is not a folder, has no such files in
 * its subfolders, or has more files of another kind of example. Throws `DataError` for a folder with only one class, and for files
 * that are not directly in the subfolders.
 */
export async function findClasses(path: string, pattern: RegExp): Promise<ClassFolder | undefined> {
  const entries = await entriesBelow(path).catch(() => []);
  const inside = entries.filter(({ isFolder }) => !isFolder);
  const count = (wanted: RegExp): number => inside.filter(({ names }) => wanted.test(names.at(-1)!)).length;
  // The most frequent kind of file decides the kind of the folder.
  const others = count(KNOWN) - count(pattern);
  if (count(pattern) <= others) return undefined;
  const found = inside.filter(({ names }) => pattern.test(names.at(-1)!) && names.length === 2);
  if (found.length === 0) {
    // Texts with some pictures are a corpus of texts; a note beside many pictures is not.
    if (10 * others > count(pattern)) return undefined;
    throw new DataError(
      `${path} has its files ${inside.some(({ names }) => names.length > 2) ? 'in subfolders of subfolders: name the folder whose subfolders are the classes' : 'side by side: put those of each class into a subfolder with its name'}`,
    );
  }
  const classes = [...new Set(found.map(({ names }) => names[0]!))].sort();
  if (classes.length === 1) {
    throw new DataError(
      `${path} has one class alone, ${classes[0]}: expected a subfolder for each of two classes or more`,
    );
  }
  const files = found
    .map(({ names }) => ({ path: join(path, ...names), label: classes.indexOf(names[0]!) }))
    // Sorted by code units, since a split must not depend on the locale.
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const known = new Set(files.map((file) => file.path));
  const empty = entries
    .filter(({ isFolder, names }) => isFolder && names.length === 1 && !classes.includes(names[0]!))
    .map(({ names }) => `${join(path, ...names)} (no class: no such files lie in it)`);
  const rest = inside.map(({ names }) => join(path, ...names)).filter((each) => !known.has(each));
  return { classes, files, leftOut: [...empty, ...rest.sort()] };
}

interface Entry {
  /** The names of its folders below the first one, and its own. */
  readonly names: readonly string[];
  readonly isFolder: boolean;
}

/** What is below a folder, without hidden entries. Links are followed, except to a folder that they are in; a broken link is a file. */
async function entriesBelow(
  path: string,
  above: readonly string[] = [],
  names: readonly string[] = [],
): Promise<Entry[]> {
  const folder = join(path, ...names);
  const real = await realpath(folder);
  if (above.includes(real)) return [];
  const found: Entry[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.name.startsWith('.')) continue;
    const here = [...names, entry.name];
    const target = entry.isSymbolicLink() ? await stat(join(path, ...here)).catch(() => undefined) : entry;
    const isFolder = target?.isDirectory() === true;
    found.push({ names: here, isFolder });
    if (isFolder) found.push(...(await entriesBelow(path, [...above, real], here)));
  }
  return found;
}
