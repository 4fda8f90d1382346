/** Reading a user's text file, with errors that name the file. */
import { readBytes, statsOf } from '#platform';
import { DataError } from '../errors.js';
import { unreadable } from './unreadable.js';

/** V8's strings have at most 2^29 characters. */
const MOST_BYTES = 5e8;

/**
 * Reads a UTF-8 file and removes its byte order mark. `what` describes the content in errors, such as `a table`. Throws `DataError`, with the path,
 * for a file that is missing, larger than 500 MB, or not UTF-8.
 */
export async function readTextFile(path: string, what: string): Promise<string> {
  const refuse = (error: unknown): never => {
    throw unreadable(path, error);
  };
  const { size } = await statsOf(path).catch(refuse);
  if (size > MOST_BYTES)
    throw new DataError(
      `${path} has ${Math.round(size / 1e6)} MB: ${what} of up to ${MOST_BYTES / 1e6} MB can be read`,
    );
  const bytes = await readBytes(path).catch(refuse);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new DataError(`${path} is not UTF-8 text: save ${what} in UTF-8`, { cause: error });
  }
}
