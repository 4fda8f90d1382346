/** Checks of paths that results are written to. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StorageError } from '../../errors.js';
import { inWords } from './atomic.js';

/** Checks the path of a result before the work, so that hours of it are not lost at the end. Throws `StorageError`. */
export async function expectWritable(path: string): Promise<void> {
  try {
    // The last part makes the parent be a folder.
    await access(`${dirname(path)}/.`, constants.W_OK);
  } catch (error) {
    throw inWords(path, error);
  }
  const there = await stat(path).catch(() => undefined);
  if (there && !there.isFile()) {
    throw new StorageError(
      `Could not write ${path}: something that is no file is there. Choose another name.`,
    );
  }
}
