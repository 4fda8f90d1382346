/** The refusal of a file that cannot be read. */
import { DataError } from '../errors.js';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EISDIR: 'it is a folder: name the files in it',
  EACCES: 'this user has no permission to',
};

/** Why a system error occurred, in words where it is a common one. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return REASONS[code ?? ''] ?? message;
}

/** The error for a file of a person's that cannot be read. */
export function unreadable(path: string, error: unknown): DataError {
  return new DataError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
}
