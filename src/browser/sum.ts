/** Checksums as hubs keep them: the SHA-256 of a large file's bytes, git's id of a small one. */
import { sha1 } from '@noble/hashes/legacy.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';

/** A checksum that a file must have. */
export interface Sum {
  readonly kind: 'sha256' | 'git';
  /** Lower-case hexadecimal digits. */
  readonly hex: string;
}

/** A hash over bytes that come in pieces. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  hex(): string;
}

/** What digests a file of this size to its sum; nothing where there is no sum. */
export function hasherOf(sum: Sum | undefined, size = 0): Hasher | undefined {
  if (!sum) return undefined;
  const hash = sum.kind === 'sha256' ? sha256.create() : sha1.create().update(utf8ToBytes(`blob ${size}\0`));
  return {
    update: (bytes) => void hash.update(bytes),
    hex: () => bytesToHex(hash.clone().digest()),
  };
}
