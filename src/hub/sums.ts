/**
 * Checksums as the hub lists them: for a large file, the SHA-256 of its bytes (its LFS oid); for a small file, its git object id,
 * the SHA-1 of `blob <size>\0` followed by its bytes.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** A checksum listed by the hub: SHA-256 of a large file, or the git id of a small one. */
export interface Sum {
  readonly kind: 'sha256' | 'git';
  /** Lower-case hexadecimal. */
  readonly hex: string;
}

/** A file at the root of a repository: name, size in bytes, checksum. */
export interface RemoteFile {
  readonly name: string;
  readonly size: number;
  readonly sum: Sum;
}

/** A hasher whose digest over all bytes of the file must equal `sum.hex`. */
export function hasherFor({ size, sum }: RemoteFile): Hash {
  return sum.kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/**
 * Updates `hasher` with the bytes of a file; `onBytes` gets the number of bytes read so far. Throws file system errors, and the
 * signal's reason when it is aborted.
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
