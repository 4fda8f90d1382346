/** A folder of examples by class: each subfolder is a class, named after it, and the files in it are its examples. */
import { readdir } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
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
 * Finds the files whose names match `pattern`, without hidden ones. Undefined if `path` is not a folder, has no such files in
 * its subfolders, or has more files of another kind of example. Throws `DataError` for a folder with only one class, and for files
 * that are not directly in the subfolders.
 */
export async function findClasses(path: string, pattern: RegExp): Promise<ClassFolder | undefined> {
  const entries = await readdir(path, { withFileTypes: true, recursive: true }).catch(() => []);
  const inside = entries
    .map((entry) => ({ entry, names: namesBelow(path, join(entry.parentPath, entry.name)) }))
    .filter(({ entry, names }) => !entry.isDirectory() && !names.some((name) => name.startsWith('.')));
  const count = (wanted: RegExp): number => inside.filter(({ entry }) => wanted.test(entry.name)).length;
  // The most frequent kind of file decides the kind of the folder.
  const others = count(KNOWN) - count(pattern);
  if (count(pattern) <= others) return undefined;
  const found = inside.filter(({ entry, names }) => pattern.test(entry.name) && names.length === 2);
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
    .filter((entry) => entry.isDirectory() && namesBelow(path, entry.parentPath).length === 0)
    .filter(({ name }) => !classes.includes(name) && !name.startsWith('.'))
    .map(({ name }) => `${join(path, name)} (no class: no such files lie in it)`);
  const rest = inside.map(({ names }) => join(path, ...names)).filter((each) => !known.has(each));
  return { classes, files, leftOut: [...empty, ...rest.sort()] };
}

function namesBelow(path: string, inside: string): string[] {
  return relative(path, inside)
    .split(sep)
    .filter((name) => name !== '');
}
