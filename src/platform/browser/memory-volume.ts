/** Files in memory: those that the user drops, and all files if the browser has no persistent storage. */
import type { FolderEntry } from '../platform.js';
import { basename, dirname } from './paths.js';
import { SystemError, type Volume, type Writer } from './volume.js';

/** A volume in memory, for the life of the page. */
export class MemoryVolume implements Volume {
  private readonly entries: Map<string, Blob | 'folder'>;

  /** Starts with these folders. */
  constructor(...folders: string[]) {
    this.entries = new Map(['/', ...folders].map((folder) => [folder, 'folder']));
  }

  async find(path: string): Promise<Blob | 'folder' | undefined> {
    return this.entries.get(path);
  }

  async list(folder: string): Promise<FolderEntry[]> {
    const found = this.entries.get(folder);
    if (found !== 'folder') throw new SystemError(found ? 'ENOTDIR' : 'ENOENT', folder);
    return [...this.entries]
      .filter(([path]) => path !== '/' && dirname(path) === folder)
      .map(([path, entry]) => ({ name: basename(path), isFolder: entry === 'folder' }));
  }

  async makeFolder(folder: string): Promise<void> {
    const found = this.entries.get(folder);
    if (found === 'folder') return;
    if (found) throw new SystemError('ENOTDIR', folder);
    await this.makeFolder(dirname(folder));
    this.entries.set(folder, 'folder');
  }

  /** Adds a file without copying it. */
  put(path: string, file: Blob): void {
    this.entries.set(path, file);
  }

  async openWriter(path: string): Promise<Writer> {
    if (this.entries.get(dirname(path)) !== 'folder') throw new SystemError('ENOENT', path);
    const before = this.entries.get(path);
    if (before === 'folder') throw new SystemError('EISDIR', path);
    // Most writes append, so the pieces are joined only when the file is closed.
    let pieces: BlobPart[] = before ? [before] : [];
    let size = before?.size ?? 0;
    const joined = (): Blob => new Blob(pieces);
    return {
      get size() {
        return size;
      },
      write(bytes, offset) {
        if (offset !== size) {
          const file = joined();
          pieces = [file.slice(0, offset), bytes.slice(), file.slice(offset + bytes.byteLength)];
        } else pieces.push(bytes.slice());
        size = Math.max(size, offset + bytes.byteLength);
      },
      truncate(length) {
        pieces = [joined().slice(0, length)];
        size = Math.min(size, length);
      },
      close: () => this.put(path, joined()),
    };
  }

  async move(from: string, to: string): Promise<void> {
    const found = this.entries.get(from);
    if (found === undefined) throw new SystemError('ENOENT', from);
    this.entries.delete(from);
    this.entries.set(to, found);
  }

  async remove(path: string): Promise<void> {
    for (const other of this.entries.keys()) {
      if (other === path || other.startsWith(`${path}/`)) this.entries.delete(other);
    }
  }
}
