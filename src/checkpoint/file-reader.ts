/** Files opened for reading, any part of them at a time, with the system's refusals in words. */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { fileVersion } from '../engine/index.js';
import { CheckpointError } from '../errors.js';

/** A file that is open, how many bytes it has, and what tells it from another under its name; see `fileVersion`. */
export interface OpenedFile {
  readonly handle: FileHandle;
  readonly fileBytes: number;
  readonly version: string;
}

/** Opens a file. Throws CheckpointError when there is none, or it may not be read. */
export async function openForReading(path: string): Promise<OpenedFile> {
  try {
    // Opening a pipe would wait for its writer.
    const found = await stat(path);
    if (found.isFile()) {
      const handle = await open(path, 'r');
      const stats = await handle.stat({ bigint: true });
      return { handle, fileBytes: Number(stats.size), version: fileVersion(stats) };
    }
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new CheckpointError(
      missing
        ? `${path} does not exist. Check the path.`
        : `${path} cannot be opened: ${(error as Error).message}. Check its permissions.`,
      { cause: error },
    );
  }
  throw new CheckpointError(`${path} is not a file: something else has its name. Check the path.`);
}

/** Fills `bytes` from the file at `byteOffset`. Throws CheckpointError when it ends before, or the disk fails. */
export async function readExactly(
  path: string,
  handle: FileHandle,
  bytes: Uint8Array,
  byteOffset: number,
): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    // Node takes at most 2^31 - 1 bytes in one call.
    const rest = bytes.subarray(done, done + 2 ** 30);
    const { bytesRead } = await handle
      .read(rest, 0, rest.byteLength, byteOffset + done)
      .catch((error: Error) => {
        throw new CheckpointError(
          `${path} cannot be read: ${error.message}. Check the disk, and that the file is open.`,
          { cause: error },
        );
      });
    if (bytesRead === 0) {
      throw new CheckpointError(
        `${path} ends at byte ${byteOffset + done}: it was cut off while it was open. Open it again.`,
      );
    }
    done += bytesRead;
  }
}

/**
 * Refuses what Git leaves in the place of a large file that it has not fetched.
 *
 * @param start the file's first bytes, at least 8 where it has so many
 * @throws CheckpointError when they are a pointer's
 */
export function refuseGitLfsPointer(path: string, start: Uint8Array): void {
  if (new TextDecoder().decode(start.subarray(0, 8)) === 'version ') {
    throw new CheckpointError(
      `${path} looks like a Git LFS pointer, not like the file it stands for. Run "git lfs pull" in its folder.`,
    );
  }
}
