/**
 * Creates a folder and its parents. Node's own `recursive: true` loops forever on filesystems that report ENOENT although the parent exists, such
 * as /proc and automounters.
 */
import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/** Creates a folder and its missing parents; returns the topmost created folder, if any. Throws system errors. */
export async function makeFolder(folder: string): Promise<string | undefined> {
  const path = resolve(folder);
  try {
    await mkdir(path);
    return path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') {
      // For an existing folder, a read-only filesystem may report another error than EEXIST.
      if (await isFolder(path)) return undefined;
      throw error;
    }
    const parent = dirname(path);
    if (parent === path) throw error;
    const made = await makeFolder(parent);
    try {
      await mkdir(path);
      return made ?? path;
    } catch (again) {
      // Another process may have created it.
      if ((again as NodeJS.ErrnoException).code === 'EEXIST' && (await isFolder(path))) return made;
      throw again;
    }
  }
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}
