/**
 * A file on its way: the bytes that have come so far, on disk under the name of its checksum, and their hash.
 *
 * The checksum in the name is what makes going on safe. A part that was begun an hour ago belongs to exactly the bytes
 * that the hub lists now, or it has another name and is not found.
 */
import type { Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { inWords } from '../checkpoint/index.js';
import { hasherFor, hashFile, type RemoteFile } from './sums.js';

/** An open part: one writer, bytes appended in order. All that fails on the disk throws `StorageError`. */
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

  /** Opens the part at `path`, new or with what an earlier process left; `onBytes` hears how much of that is read again. */
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

  /** How many bytes there are. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether all bytes are there, and are the right ones. */
  get isRight(): boolean {
    return this.#bytes === this.#file.size && this.sum === this.#file.sum.hex;
  }

  /** The checksum of the bytes that are there. */
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

  /** Drops all bytes. */
  async restart(): Promise<void> {
    try {
      await this.#handle.truncate(0);
      this.#bytes = 0;
      this.#hasher = hasherFor(this.#file);
    } catch (error) {
      throw inWords(this.path, error);
    }
  }

  /** Renames the part to the file that it has become, in one step, and closes it. */
  async place(target: string): Promise<void> {
    try {
      await this.#handle.sync();
      await this.#handle.close();
      await rename(this.path, target);
    } catch (error) {
      throw inWords(target, error);
    }
  }

  /** Closes the file; what was written stays. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}
