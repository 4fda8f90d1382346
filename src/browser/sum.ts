/** Checksums as hubs list them: the SHA-256 of a large file's bytes, the git id of a small file. */
import { sha1 } from '@noble/hashes/legacy.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';

/** A checksum that a file must have. */
export interface Sum {
  readonly kind: 'sha256' | 'git';
  /** Lower-case hexadecimal. */
  readonly hex: string;
}

/** An incremental hash. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  hex(): string;
}

/** A hasher for a file of this size, whose digest must equal the checksum; undefined without a checksum. */
export function hasherOf(sum: Sum | undefined, size = 0): Hasher | undefined {
  if (!sum) return undefined;
  const hash = sum.kind === 'sha256' ? sha256.create() : sha1.create().update(utf8ToBytes(`blob ${size}\0`));
  return {
    update: (bytes) => void hash.update(bytes),
    hex: () => bytesToHex(hash.clone().digest()),
  };
}
