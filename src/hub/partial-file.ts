/**
 * A partly downloaded file: its bytes on disk under a name made of its checksum, and their running hash.
 *
 * The checksum in the name makes it safe to resume: a part that was begun an hour ago either has the checksum that
 * the hub lists now, or has another name and is not found.
 */
import type { Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { inWords } from '../checkpoint/index.js';
import { hasherFor, hashFile, type RemoteFile } from './sums.js';

/** An open part file with one writer, which appends bytes in order. Every method throws `StorageError` when a disk operation fails. */
export class PartialFile {
  readonly path: string;
  readonly #file: RemoteFile;
  readonly #handle: FileHandle;
  #hasher: Hash;
  #bytes = 0;

  private constructor(path: string, file: RemoteFile, handle: FileHandle, hasher: Hash) {
    this.path = path;
    this.#file = file;
    this.#handle = handle;
    this.#hasher = hasher;
  }

  /** Opens the part at `path`, creating it if it is missing. Existing bytes are read to hash them; `onBytes` gets the count so far. */
  static async open(
    path: string,
    file: RemoteFile,
    signal: AbortSignal | undefined,
    onBytes: (done: number) => void,
  ): Promise<PartialFile> {
    try {
      const handle = await open(path, constants.O_RDWR | constants.O_CREAT);
      const part = new PartialFile(path, file, handle, hasherFor(file));
      try {
        const { size } = await handle.stat();
        if (size > file.size) {
          await part.restart();
        } else if (size > 0) {
          await hashFile(path, part.#hasher, signal, onBytes);
          part.#bytes = size;
        }
      } catch (error) {
        await handle.close();
        throw error;
      }
      return part;
    } catch (error) {
      throw inWords(path, error);
    }
  }

  /** Number of bytes written. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the file is complete and has the listed checksum. */
  get isRight(): boolean {
    return this.#bytes === this.#file.size && this.sum === this.#file.sum.hex;
  }

  /** The checksum of the bytes written so far. */
  get sum(): string {
    return this.#hasher.copy().digest('hex');
  }

  async append(chunk: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < chunk.byteLength; ) {
        const rest = chunk.subarray(done);
        const { bytesWritten } = await this.#handle.write(rest, 0, rest.byteLength, this.#bytes);
        this.#hasher.update(rest.subarray(0, bytesWritten));
        this.#bytes += bytesWritten;
        done += bytesWritten;
      }
    } catch (error) {
      throw inWords(this.path, error);
    }
  }

  /** Truncates the file to zero bytes. */
  async restart(): Promise<void> {
    try {
      await this.#handle.truncate(0);
      this.#bytes = 0;
      this.#hasher = hasherFor(this.#file);
    } catch (error) {
      throw inWords(this.path, error);
    }
  }

  /** Closes the part and renames it to `target` atomically. */
  async place(target: string): Promise<void> {
    try {
      await this.#handle.sync();
      await this.#handle.close();
      await rename(this.path, target);
    } catch (error) {
      throw inWords(target, error);
    }
  }

  /** Closes the file; its bytes stay on disk. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}
