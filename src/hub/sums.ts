/**
 * Checksums, as the hub keeps them: a large file's is the SHA-256 of its bytes (its LFS oid), a small one's is the id that git
 * gives it: the SHA-1 of `blob <size>\0` and its bytes.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** A checksum as the hub gives it: SHA-256 of a large file, or git's SHA-1 of a blob. */
export interface Sum {
  readonly kind: 'sha256' | 'git';
  /** Lower-case hexadecimal digits. */
  readonly hex: string;
}

/** A file of a repository: its name (without folders), its size in bytes, its checksum. */
export interface RemoteFile {
  readonly name: string;
  readonly size: number;
  readonly sum: Sum;
}

/** What takes a file's bytes in order and digests them to its sum. */
export function hasherFor({ size, sum }: RemoteFile): Hash {
  return sum.kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/**
 * Feeds a file on disk to `hasher`; `onBytes` hears how many bytes are done. Throws system errors, and the signal's
 * reason when that is aborted.
 */
export async function hashFile(
  path: string,
  hasher: Hash,
  signal: AbortSignal | undefined,
  onBytes: (done: number) => void,
): Promise<void> {
  let done = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) {
    signal?.throwIfAborted();
    hasher.update(chunk as Buffer);
    done += (chunk as Buffer).byteLength;
    onBytes(done);
  }
}
