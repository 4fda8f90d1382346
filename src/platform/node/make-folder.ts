/**
 * Making a folder and those above it. Node's own way (`recursive: true`) never ends where a filesystem answers that
 * something does not exist although its parent does, as /proc and automounters do: it makes the parent again and again.
 */
import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/** Makes what is missing of a folder's path; returns the topmost folder that was made, if any. Throws system errors. */
export async function makeFolder(folder: string): Promise<string | undefined> {
  const path = resolve(folder);
  try {
    await mkdir(path);
    return path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') {
      // On a folder that is there, a read-only filesystem may answer with its own refusal.
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
      // Someone else may have been faster.
      if ((again as NodeJS.ErrnoException).code === 'EEXIST' && (await isFolder(path))) return made;
      throw again;
    }
  }
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}
