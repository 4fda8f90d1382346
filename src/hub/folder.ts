/**
 * The folder that a model is pulled into, and the hidden folder in it that a pull keeps its books in:
 *
 *   .heddle-pull/pulled.json      which repository the folder holds, and which of its files a pull has written
 *   .heddle-pull/<checksum>.part  a file on its way (see `part.ts`)
 *   .heddle-pull/lock-<pid>       who is writing (see `platform/node/lock.ts`)
 *
 * A pull replaces and removes what a pull has written, and nothing else: a person's own README.md is safe from it.
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

/** Throws `StorageError` when something that is no folder stands there. */
export async function expectFolder(path: string): Promise<void> {
  try {
    if ((await stat(path)).isDirectory()) return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw inWords(path, error);
  }
  throw new StorageError(`${path} is a file, and a model needs a folder. Name another one.`);
}

/** How the files of a plan stand in the folder. */
export interface Standing {
  readonly missing: readonly RemoteFile[];
  /** Those of the missing that are there, but not as the hub has them. */
  readonly replaced: readonly RemoteFile[];
}

/** A folder of which this process is the only writer, until it is released. */
export class PullFolder {
  readonly #hidden: string;
  #ours = new Set<string>();

  private constructor(
    readonly path: string,
    readonly repo: string,
    /** The topmost folder that had to be made. */
    private readonly made: string | undefined,
    private readonly unlock: () => Promise<void>,
  ) {
    this.#hidden = join(path, HIDDEN);
  }

  /** Makes the folder where it is missing. Throws `StorageError` when it cannot be had, or holds another model. */
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

  /** How many bytes of a file an interrupted pull has left. */
  async partBytes(file: RemoteFile): Promise<number> {
    const size = (await stat(this.partOf(file)).catch(() => undefined))?.size ?? 0;
    return size > file.size ? 0 : size;
  }

  /** Whether a file is there as the hub has it, by size and checksum. */
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

  /** Compares the folder with the files that it shall hold. Throws `StorageError` when something else is in the way. */
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
    // Whoever reads the folder would take it for the weights.
    if (!files.some(({ name }) => name === SINGLE)) await this.#isTaken(SINGLE);
    return { missing, replaced };
  }

  /** Writes down what is about to be written, and drops the parts of files that are not. */
  async begin(files: readonly RemoteFile[]): Promise<void> {
    for (const { name } of files) this.#ours.add(name);
    await this.#writeBooks();
    const parts = new Set(files.map((file) => this.partOf(file)));
    for (const name of await readdir(this.#hidden)) {
      const path = join(this.#hidden, name);
      if (name.endsWith('.part') && !parts.has(path)) await rm(path, { force: true });
    }
  }

  /** Removes what earlier pulls wrote and the model no longer has. */
  async finish(files: readonly RemoteFile[]): Promise<void> {
    const names = new Set(files.map(({ name }) => name));
    for (const name of this.#ours) if (!names.has(name)) await rm(join(this.path, name), { force: true });
    this.#ours = names;
    await this.#writeBooks();
  }

  /** Gives the folder back; of a pull that wrote nothing, nothing stays. */
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

  /** Whether something of this name is there; throws `StorageError` when no pull has put it there. */
  async #isTaken(name: string): Promise<boolean> {
    const path = join(this.path, name);
    const there = await stat(path).catch(() => undefined);
    if (there === undefined) return false;
    if (there.isFile() && this.#ours.has(name)) return true;
    throw new StorageError(
      `Could not write ${this.path}: its ${name} is not the one of ${this.repo}, and no pull has put it there. Move it away, or name another folder.`,
    );
  }

  async #readBooks(): Promise<void> {
    const text = await readFile(join(this.#hidden, BOOKS), 'utf8').catch(() => undefined);
    if (text === undefined) return;
    let books: z.infer<typeof Books>;
    try {
      books = Books.parse(JSON.parse(text));
    } catch {
      // Without its books a pull merely replaces nothing.
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
