/**
 * Downloads a model from a repository on a hub to a folder.
 *
 * A pull lists the repository, selects files, compares them with the folder, and downloads what is missing, one file after
 * the other. The list gives each file's size and checksum: a file is moved into place only when it matches them. If the
 * repository changes meanwhile, the pull starts again with a new list and keeps the files that still match. `config.json` is
 * moved into place last, so a folder with a config holds a complete model.
 *
 * The bytes are fetched here with a ranged GET of the hub's `resolve` URLs. The hub library is used for listing only: its
 * downloads cannot resume from a part, and for files stored in chunks (Xet) they use another protocol.
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
  /** Selects a GGUF file by its format, such as `Q4_K_M`; without it, the safetensors model is downloaded. */
  readonly format?: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
  /** The target folder, created if it is missing. */
  readonly folder: string;
  readonly hub: Hub;
  /** Stops the pull; downloaded bytes are kept. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: PullEvent) => void;
  readonly patience?: Patience;
}

/** Progress of a pull. */
export type PullEvent =
  /** The plan: the whole model has `bytes` in `files`; `missingBytes` in `missingFiles` are to be downloaded. */
  | {
      readonly event: 'plan';
      readonly files: number;
      readonly bytes: number;
      readonly missingFiles: number;
      readonly missingBytes: number;
      /** Files of an earlier pull that differ from the hub's. */
      readonly replaced: readonly string[];
      readonly hasTokenizer: boolean;
    }
  /** The repository has changed since it was listed. */
  | { readonly event: 'changed' }
  | TransferEvent;

/** Result of a pull. */
export interface PullResult {
  readonly files: number;
  readonly bytes: number;
  /** Number of downloaded files; 0 if all were present. */
  readonly downloaded: number;
}

/** Changes of the repository during one pull before it fails. */
const MOST_CHANGES = 3;

/**
 * Downloads a model, or the part of it that is missing.
 *
 * @throws HubError when the hub cannot be reached, refuses the request, or has no such model; StorageError when the model
 *   cannot be written; the signal's reason when it is aborted
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
    `${request.repo} does not have the files that the hub lists, or keeps changing. Run the same command later, or name a commit as the revision.`,
  );
}

class Pull {
  readonly #request: PullRequest;
  readonly #connection: Connection;
  readonly #emit: (event: PullEvent) => void;
  /** Bytes of the whole model, of the files already in place, and received over the network. */
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
        // All conflicts in the folder are found before anything is written.
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

  /** The shards that the index names. The index is downloaded for this, and moved into place with the other files. */
  async #shards(folder: PullFolder, index: RemoteFile, entries: readonly Entry[]): Promise<RemoteFile[]> {
    let path = folder.pathOf(index);
    if (!(await folder.has(index))) {
      const part = await this.#fetch(folder, index);
      await part.close();
      path = part.path;
    }
    return shardsOf(this.#request.repo, await readFile(path), entries);
  }

  /** The number of bytes left to download. Throws `StorageError` when the disk has less free space. */
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

  /** Downloads a file and checks it. Throws `HubError` when its checksum is wrong twice. */
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
    // The index is downloaded before the total is known; no progress is reported for it.
    if (this.#total === 0) return;
    this.#emit({ event: 'downloading', name, done, total: this.#total, received: this.#received });
  }
}

/** Throws `Changed` when the response's checksum differs from the listed one. */
function expectSameFile({ etag }: Answer, { sum }: RemoteFile): void {
  const given = /^(?:W\/)?"?([0-9a-f]+)"?$/.exec(etag ?? '')?.[1];
  // An ETag of any other form was set by some server in between and is not a checksum.
  if (given?.length === sum.hex.length && given !== sum.hex) throw new Changed();
}

function sizeOf(files: readonly RemoteFile[]): number {
  return files.reduce((total, { size }) => total + size, 0);
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toLocaleString('en', { maximumFractionDigits: 2 })} GB`;
}
