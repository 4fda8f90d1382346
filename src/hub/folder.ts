/**
 * The folder that a model is pulled into, and its hidden folder with the state of the pull:
 *
 *   .heddle-pull/pulled.json         the repository that the folder holds, and the files that pulls have written
 *   .heddle-pull/<checksum>.part     a partly downloaded file (see `partial-file.ts`)
 *   .heddle-pull/lock-<pid>-<machine>  the process that is writing (see `platform/node/lock.ts`)
 *
 * A pull replaces and removes only files that a pull has written: a user's own README.md is never touched.
 */
import { readdir, readFile, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { inWords, makeFolder, writeFileAtomic } from '../checkpoint/index.js';
import { StorageError } from '../errors.js';
import { lockFolder } from '../platform/node/lock.js';
import { isPlainName } from './names.js';
import { SINGLE } from './selection.js';
import { hasherFor, hashFile, type RemoteFile } from './sums.js';

const HIDDEN = '.heddle-pull';
const BOOKS = 'pulled.json';

const Books = z.object({ repo: z.string(), files: z.array(z.string().refine(isPlainName)) });

/** Throws `StorageError` when `path` exists and is not a folder. */
export async function expectFolder(path: string): Promise<void> {
  try {
    if ((await stat(path)).isDirectory()) return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw inWords(path, error);
  }
  throw new StorageError(`${path} is a file, and a model needs a folder. Name another one.`);
}

/** Comparison of the planned files with the folder. */
export interface Standing {
  readonly missing: readonly RemoteFile[];
  /** The missing files for which the folder has another version. */
  readonly replaced: readonly RemoteFile[];
}

/** A folder that only this process writes, until `release`. */
export class PullFolder {
  readonly #hidden: string;
  #ours = new Set<string>();

  private constructor(
    readonly path: string,
    readonly repo: string,
    /** The topmost folder that was created. */
    private readonly made: string | undefined,
    private readonly unlock: () => Promise<void>,
  ) {
    this.#hidden = join(path, HIDDEN);
  }

  /** Locks the folder, creating it if it is missing. Throws `StorageError` when that fails or the folder holds another model. */
  static async claim(path: string, repo: string): Promise<PullFolder> {
    const hidden = join(path, HIDDEN);
    let folder: PullFolder;
    try {
      const made = await makeFolder(hidden);
      folder = new PullFolder(path, repo, made, await lockFolder(hidden, path));
    } catch (error) {
      throw inWords(path, error);
    }
    try {
      await folder.#readBooks();
    } catch (error) {
      await folder.release();
      throw error;
    }
    return folder;
  }

  pathOf({ name }: RemoteFile): string {
    return join(this.path, name);
  }

  partOf({ sum }: RemoteFile): string {
    return join(this.#hidden, `${sum.hex}.part`);
  }

  /** Bytes of a file that an interrupted pull has downloaded. */
  async partBytes(file: RemoteFile): Promise<number> {
    const size = (await stat(this.partOf(file)).catch(() => undefined))?.size ?? 0;
    return size > file.size ? 0 : size;
  }

  /** Whether the folder has the file with the listed size and checksum. */
  async has(
    file: RemoteFile,
    signal?: AbortSignal,
    onBytes: (done: number) => void = () => {},
  ): Promise<boolean> {
    const path = this.pathOf(file);
    try {
      const there = await stat(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      if (there === undefined || !there.isFile() || there.size !== file.size) return false;
      const hasher = hasherFor(file);
      await hashFile(path, hasher, signal, onBytes);
      return hasher.digest('hex') === file.sum.hex;
    } catch (error) {
      throw inWords(path, error);
    }
  }

  /** Compares the folder with the planned files. Throws `StorageError` when a file that no pull has written has the name of one of them. */
  async compare(
    files: readonly RemoteFile[],
    signal: AbortSignal | undefined,
    onBytes: (file: RemoteFile, done: number) => void,
  ): Promise<Standing> {
    const missing: RemoteFile[] = [];
    const replaced: RemoteFile[] = [];
    for (const file of files) {
      if (await this.has(file, signal, (done) => onBytes(file, done))) continue;
      missing.push(file);
      if (await this.#isTaken(file.name)) replaced.push(file);
    }
    // A program that loads the folder would take this file for the weights.
    if (!files.some(({ name }) => name === SINGLE)) await this.#isTaken(SINGLE);
    return { missing, replaced };
  }

  /** Records the files about to be written, and deletes the parts of other files. */
  async begin(files: readonly RemoteFile[]): Promise<void> {
    for (const { name } of files) this.#ours.add(name);
    await this.#writeBooks();
    const parts = new Set(files.map((file) => this.partOf(file)));
    for (const name of await readdir(this.#hidden)) {
      const path = join(this.#hidden, name);
      if (name.endsWith('.part') && !parts.has(path)) await rm(path, { force: true });
    }
  }

  /** Removes files that earlier pulls wrote and that the model no longer has. */
  async finish(files: readonly RemoteFile[]): Promise<void> {
    const names = new Set(files.map(({ name }) => name));
    for (const name of this.#ours) if (!names.has(name)) await rm(join(this.path, name), { force: true });
    this.#ours = names;
    await this.#writeBooks();
  }

  /** Unlocks the folder; if the pull wrote nothing, also removes the folders it created. */
  async release(): Promise<void> {
    await this.unlock();
    const last = this.made ?? resolve(this.#hidden);
    for (let folder = resolve(this.#hidden); ; folder = dirname(folder)) {
      const removed = await rmdir(folder).then(
        () => true,
        () => false,
      );
      if (!removed || folder === last) return;
    }
  }

  /** Whether a file of this name exists; throws `StorageError` if no pull wrote it. */
  async #isTaken(name: string): Promise<boolean> {
    const path = join(this.path, name);
    const there = await stat(path).catch(() => undefined);
    if (there === undefined) return false;
    if (there.isFile() && this.#ours.has(name)) return true;
    throw new StorageError(
      `Could not write ${this.path}: its ${name} differs from the one of ${this.repo} and was not downloaded by a pull. Move it away, or name another folder.`,
    );
  }

  async #readBooks(): Promise<void> {
    const text = await readFile(join(this.#hidden, BOOKS), 'utf8').catch(() => undefined);
    if (text === undefined) return;
    let books: z.infer<typeof Books>;
    try {
      books = Books.parse(JSON.parse(text));
    } catch {
      // Without this record, a pull only does not replace any file.
      return;
    }
    if (books.repo !== this.repo) {
      throw new StorageError(
        `${this.path} holds ${books.repo}, and would become a mixture with ${this.repo}. Name another folder.`,
      );
    }
    this.#ours = new Set(books.files);
  }

  async #writeBooks(): Promise<void> {
    const books: z.infer<typeof Books> = { repo: this.repo, files: [...this.#ours].sort() };
    await writeFileAtomic(join(this.#hidden, BOOKS), `${JSON.stringify(books, null, 2)}\n`);
  }
}
