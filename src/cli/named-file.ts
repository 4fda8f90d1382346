/** Files that options name. */
import { constants, readFileSync } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { inWords } from '../checkpoint/index.js';
import { ConfigError, StorageError } from '../errors.js';
import { parseConfigText } from '../models/index.js';
import { reasonOf } from '../platform/unreadable.js';

/** The text of a file, without a byte order mark. Throws `ConfigError` for one that cannot be read. */
export function readNamedFile(path: string): string {
  try {
    return readFileSync(path, 'utf8').replace(/^\ufeff/, '');
  } catch (error) {
    throw new ConfigError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

/** The object in a config.json. Throws `ConfigError` for a file that cannot be read or holds something else. */
export function readConfigFile(path: string): Record<string, unknown> {
  return parseConfigText(readNamedFile(path), path);
}

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
