/** System errors in words, and the refusal of a file that cannot be read. */
import { DataError } from '../errors.js';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EEXIST: 'a file of this name is there already',
  EISDIR: 'it is a folder, and a file is expected',
  EACCES: 'this user has no permission to',
  EPERM: 'this user has no permission to',
  ELOOP: 'its links point at each other',
  ENAMETOOLONG: 'its name is longer than the file system allows',
  EMFILE: 'this process has too many files open',
  ENFILE: 'this machine has too many files open',
  EIO: 'the disk failed',
  ENOSPC: 'the disk is full',
  EDQUOT: "this user's share of the disk is full",
  EROFS: 'the disk can only be read',
  EBUSY: 'another program holds it',
};

/** Why a system error occurred, in words where it is a common one. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return REASONS[code ?? ''] ?? message;
}

/** A refusal of the system in words, with its path; undefined for any other error. */
export function systemRefusal(error: unknown): string | undefined {
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (syscall === undefined || !(code! in REASONS)) return undefined;
  return `${path ?? syscall} cannot be used: ${reasonOf(error)}`;
}

/** The error for a file of a person's that cannot be read. */
export function unreadable(path: string, error: unknown): DataError {
  return new DataError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
}
