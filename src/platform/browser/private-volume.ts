/** The origin's private file system (OPFS), the browser's persistent storage for the pages of one origin. */
import type { FolderEntry } from '../platform.js';
import { basename, dirname, namesOf } from './paths.js';
import { SystemError, type Volume, type Writer } from './volume.js';

/** Methods of the standard that TypeScript's DOM declarations lack. */
interface FileHandle extends FileSystemFileHandle {
  createSyncAccessHandle(): Promise<SyncAccessHandle>;
  move(folder: FileSystemDirectoryHandle, name: string): Promise<void>;
}

interface SyncAccessHandle {
  write(bytes: Uint8Array, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

interface Listed {
  values(): AsyncIterable<FileSystemHandle>;
}

/** Files in the origin private file system, which outlive the page. */
export class PrivateVolume implements Volume {
  constructor(private readonly root: FileSystemDirectoryHandle) {}

  async find(path: string): Promise<Blob | 'folder' | undefined> {
    if (path === '/') return 'folder';
    try {
      const folder = await this.folder(dirname(path));
      try {
        return await (await folder.getFileHandle(basename(path))).getFile();
      } catch (error) {
        if (nameOf(error) === 'TypeMismatchError') return 'folder';
        throw error;
      }
    } catch (error) {
      if (error instanceof SystemError || nameOf(error) === 'NotFoundError') return undefined;
      throw error;
    }
  }

  async list(folder: string): Promise<FolderEntry[]> {
    const entries: FolderEntry[] = [];
    for await (const { name, kind } of ((await this.folder(folder)) as unknown as Listed).values()) {
      entries.push({ name, isFolder: kind === 'directory' });
    }
    return entries;
  }

  async makeFolder(folder: string): Promise<void> {
    await this.folder(folder, true);
  }

  async openWriter(path: string): Promise<Writer> {
    const folder = await this.folder(dirname(path));
    const file = (await folder.getFileHandle(basename(path), { create: true })) as FileHandle;
    const handle = await file.createSyncAccessHandle();
    return {
      get size() {
        return handle.getSize();
      },
      write(bytes, offset) {
        for (let done = 0; done < bytes.byteLength; ) {
          const left = bytes.byteLength - done;
          const count = handle.write(bytes.subarray(done), { at: offset + done });
          // On an error, Chromium returns its negative error code as an unsigned number instead of throwing.
          if (!(count > 0 && count <= left)) throw new DOMException('no room', 'QuotaExceededError');
          done += count;
        }
      },
      truncate: (size) => handle.truncate(size),
      close() {
        try {
          handle.flush();
        } finally {
          // A file that stays open could not be opened again.
          handle.close();
        }
      },
    };
  }

  async move(from: string, to: string): Promise<void> {
    const file = (await (await this.folder(dirname(from))).getFileHandle(basename(from))) as FileHandle;
    await file.move(await this.folder(dirname(to)), basename(to));
  }

  async remove(path: string): Promise<void> {
    try {
      await (await this.folder(dirname(path))).removeEntry(basename(path), { recursive: true });
    } catch (error) {
      if (error instanceof SystemError || nameOf(error) === 'NotFoundError') return;
      throw error;
    }
  }

  private async folder(path: string, create = false): Promise<FileSystemDirectoryHandle> {
    let folder = this.root;
    for (const name of namesOf(path)) {
      try {
        folder = await folder.getDirectoryHandle(name, { create });
      } catch (error) {
        if (nameOf(error) === 'NotFoundError') throw new SystemError('ENOENT', path);
        if (nameOf(error) === 'TypeMismatchError') throw new SystemError('ENOTDIR', path);
        throw error;
      }
    }
    return folder;
  }
}

function nameOf(error: unknown): string | undefined {
  return error instanceof DOMException ? error.name : undefined;
}
