/** Random access reading of files, with system errors explained. */
import { type OpenedFile, openFile, statsOf } from '#platform';
import { expectText } from '../arguments.js';
import { CheckpointError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';

/** Opens a file. Throws CheckpointError when it does not exist, is not a file, or cannot be opened. */
export async function openForReading(path: string): Promise<OpenedFile> {
  expectText(path, 'the path is');
  try {
    // Opening a pipe would wait for its writer.
    const { kind } = await statsOf(path);
    if (kind === 'file') return await openFile(path);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new CheckpointError(
      missing
        ? `${path} does not exist. Check the path.`
        : `${path} cannot be opened: ${reasonOf(error)}. Check its permissions.`,
      { cause: error },
    );
  }
  throw new CheckpointError(`${path} is not a file: something else has its name. Check the path.`);
}

/** Fills `bytes` from the file at `byteOffset`. Throws CheckpointError when the file ends earlier or the disk fails. */
export async function readExactly(file: OpenedFile, bytes: Uint8Array, byteOffset: number): Promise<void> {
  const { path } = file;
  const done = await file.read(bytes, byteOffset).catch((error: Error) => {
    throw new CheckpointError(
      `${path} cannot be read: ${reasonOf(error)}. Check the disk, and that the file is open.`,
      { cause: error },
    );
  });
  if (done < bytes.byteLength) {
    throw new CheckpointError(
      `${path} ends at byte ${byteOffset + done}: it was cut off while it was open. Open it again.`,
    );
  }
}

/**
 * Refuses the pointer file that Git leaves in place of a large file that was not downloaded.
 *
 * @param start the file's first bytes, at least 8 if it has so many
 * @throws CheckpointError when they are those of a pointer
 */
export function refuseGitLfsPointer(path: string, start: Uint8Array): void {
  if (new TextDecoder().decode(start.subarray(0, 8)) === 'version ') {
    throw new CheckpointError(
      `${path} looks like a Git LFS pointer, not like the file it stands for. Run "git lfs pull" in its folder.`,
    );
  }
}
