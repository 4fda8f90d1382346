/** Files that options name. */
import { readFileSync } from 'node:fs';
import { ConfigError } from '../errors.js';
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
