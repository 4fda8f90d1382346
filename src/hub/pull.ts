/**
 * Pulling a model: from a repository on a hub to a folder that holds what it takes to run it.
 *
 * List, choose, compare with what is there, and fetch what is missing, one file after the other. The list gives every file's
 * size and checksum, so it is the measure of everything after it: a file is renamed into its place when it matches the
 * list, and when the repository changes meanwhile, all begins again with a new list (what matches that one is kept). `config.json` comes
 * last, so a folder looks like a model when it is one.
 *
 * Bytes are fetched here, with a ranged GET of the hub's plain `resolve` URLs, and not by the hub library, which lists only: its
 * downloads cannot go on from a part, and where a file is stored in chunks (Xet) they take another protocol.
 */
import { readFile, statfs } from 'node:fs/promises';
import { HubError, StorageError } from '../errors.js';
import { isVocabularyFile } from '../text/index.js';
import { type Answer, Connection } from './connection.js';
import { fetchFile, type TransferEvent } from './download.js';
import { expectFolder, PullFolder, type Standing } from './folder.js';
import { Changed, type Hub, sourceOf } from './hub.js';
import { listRepository } from './listing.js';
import { checkRepo, checkRevision } from './names.js';
import type { PartialFile } from './partial-file.js';
import { PATIENCE, type Patience } from './patience.js';
import { type Entry, INDEX, selectFiles, shardsOf, TOKENIZER } from './selection.js';
import type { RemoteFile } from './sums.js';

/** Which model to download, and where to. */
export interface PullRequest {
  /** `owner/name`. */
  readonly repo: string;
  /** Of a GGUF file, such as `Q4_K_M`; without it the model as safetensors. */
  readonly format?: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
  /** Where the model goes; made where it is missing. */
  readonly folder: string;
  readonly hub: Hub;
  /** Stops the pull; what was downloaded is kept. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: PullEvent) => void;
  readonly patience?: Patience;
}

/** How a pull goes on. */
export type PullEvent =
  /** What will be done: `bytes` of `files` are the whole model, `missingBytes` of `missingFiles` are still to come. */
  | {
      readonly event: 'plan';
      readonly files: number;
      readonly bytes: number;
      readonly missingFiles: number;
      readonly missingBytes: number;
      /** Files that an earlier pull wrote, and that are not what the hub has. */
      readonly replaced: readonly string[];
      readonly hasTokenizer: boolean;
    }
  /** The repository has changed since it was listed. */
  | { readonly event: 'changed' }
  | TransferEvent;

/** What a pull did. */
export interface PullResult {
  readonly files: number;
  readonly bytes: number;
  /** Files that were downloaded; 0 where all were there. */
  readonly downloaded: number;
}

/** How often a repository may change while it is being pulled. */
const MOST_CHANGES = 3;

/**
 * Downloads a model, or what is missing of it.
 *
 * @throws HubError when the hub cannot be reached, refuses, or does not have such a model; StorageError when it cannot be
 *   stored; and the signal's reason when that is aborted
 */
export async function pull(request: PullRequest): Promise<PullResult> {
  checkRepo(request.repo);
  checkRevision(request.revision);
  await expectFolder(request.folder);
  for (let changes = 0; changes < MOST_CHANGES; changes++) {
    try {
      return await new Pull(request).run();
    } catch (error) {
      request.signal?.throwIfAborted();
      if (!(error instanceof Changed)) throw error;
      request.onEvent?.({ event: 'changed' });
    }
  }
  throw new HubError(
    `${request.repo} has not the files that the hub lists, or changes all the time. Run the same command later, or name a commit as the revision.`,
  );
}

class Pull {
  readonly #request: PullRequest;
  readonly #connection: Connection;
  readonly #emit: (event: PullEvent) => void;
  /** Bytes of the whole model; of its files that are in their place; and that have come over the network. */
  #total = 0;
  #placed = 0;
  #received = 0;

  constructor(request: PullRequest) {
    this.#request = request;
    this.#emit = request.onEvent ?? (() => {});
    const { hub, repo, revision, patience = PATIENCE, signal } = request;
    this.#connection = new Connection(sourceOf(hub, repo, revision), patience, signal, (seconds, reason) =>
      this.#emit({ event: 'waiting', seconds, reason }),
    );
  }

  async run(): Promise<PullResult> {
    const { repo, signal, format } = this.#request;
    const entries = await listRepository(this.#connection, this.#request);
    const { config, small, weights, parts = [] } = selectFiles(repo, entries, format);
    const last = config ? [config] : [];
    const folder = await PullFolder.claim(this.#request.folder, repo);
    try {
      const look = (files: readonly RemoteFile[]): Promise<Standing> =>
        folder.compare(files, signal, ({ name, size }, done) =>
          this.#emit({ event: 'checking', name, done, total: size }),
        );
      let shards = parts;
      if (weights.name === INDEX) {
        // Before anything is written, what is in the way shall be known.
        await look([...small, weights, ...last]);
        shards = await this.#shards(folder, weights, entries);
      }
      const files = [...small, weights, ...shards, ...last];
      const { missing, replaced } = await look(files);
      const missingBytes = (await this.#expectRoom(folder, missing)) + this.#received;
      const bytes = sizeOf(files);
      this.#total = bytes;
      this.#placed = bytes - sizeOf(missing);
      this.#emit({
        event: 'plan',
        files: files.length,
        bytes,
        missingFiles: missing.length,
        missingBytes,
        replaced: replaced.map(({ name }) => name),
        hasTokenizer:
          config === undefined || small.some(({ name }) => name === TOKENIZER || isVocabularyFile(name)),
      });
      await folder.begin(files);
      for (const file of missing) {
        const part = await this.#fetch(folder, file);
        await part.place(folder.pathOf(file));
        this.#placed += file.size;
      }
      await folder.finish(files);
      return { files: files.length, bytes, downloaded: missing.length };
    } finally {
      await folder.release();
    }
  }

  /** The shards that the index names. It is fetched for this, but comes into its place with the others. */
  async #shards(folder: PullFolder, index: RemoteFile, entries: readonly Entry[]): Promise<RemoteFile[]> {
    let path = folder.pathOf(index);
    if (!(await folder.has(index))) {
      const part = await this.#fetch(folder, index);
      await part.close();
      path = part.path;
    }
    return shardsOf(this.#request.repo, await readFile(path), entries);
  }

  /** The bytes that are still to come. Throws `StorageError` when the disk does not have them. */
  async #expectRoom(folder: PullFolder, missing: readonly RemoteFile[]): Promise<number> {
    let bytes = sizeOf(missing);
    for (const file of missing) bytes -= await folder.partBytes(file);
    const { bavail, bsize } = await statfs(folder.path);
    const free = bavail * bsize;
    if (bytes <= free) return bytes;
    throw new StorageError(
      `${this.#request.repo} needs ${gigabytes(bytes)} more, and the disk of ${folder.path} has ${gigabytes(free)} free. Free some space, or name a folder on another disk.`,
    );
  }

  /** All of a file's bytes, checked. Throws `HubError` when they are wrong twice. */
  #fetch(folder: PullFolder, file: RemoteFile): Promise<PartialFile> {
    const { hub, repo, revision, signal } = this.#request;
    const { name, size } = file;
    return fetchFile(this.#connection, file, {
      url: `${hub.endpoint}/${repo}/resolve/${encodeURIComponent(revision)}/${encodeURIComponent(name)}`,
      part: folder.partOf(file),
      listedBy: 'the hub',
      setting: 'HF_ENDPOINT',
      signal,
      onAnswer: (answer) => expectSameFile(answer, file),
      onChecking: (done) => this.#emit({ event: 'checking', name, done, total: size }),
      onMismatch: () => this.#emit({ event: 'mismatch', name }),
      onBytes: (received, done) => {
        this.#received += received;
        this.#announce(file, this.#placed + done);
      },
    });
  }

  #announce({ name }: RemoteFile, done: number): void {
    // An index that is fetched to see how much there is, is not worth a word.
    if (this.#total === 0) return;
    this.#emit({ event: 'downloading', name, done, total: this.#total, received: this.#received });
  }
}

/** Throws `Changed` when the hub gives the file another checksum than it had listed. */
function expectSameFile({ etag }: Answer, { sum }: RemoteFile): void {
  const given = /^(?:W\/)?"?([0-9a-f]+)"?$/.exec(etag ?? '')?.[1];
  // Anything else than a checksum of this kind is an ETag of some server on the way, and says nothing.
  if (given?.length === sum.hex.length && given !== sum.hex) throw new Changed();
}

function sizeOf(files: readonly RemoteFile[]): number {
  return files.reduce((total, { size }) => total + size, 0);
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toLocaleString('en', { maximumFractionDigits: 2 })} GB`;
}
