/**
 * Downloads files into the browser's private file system. Received bytes stay there when the tab is closed, the rest is
 * requested later, and the complete file is checked before it is used.
 */
import { dirname, inWords, makeFolder, readText, statsOf, writeFileAtomic } from '#platform';
import { HubError, StorageError } from '../errors.js';
import { blobOf, placeOf, remove, type Writer } from '../platform/browser/storage.js';
import { ask, passing } from './patience.js';
import { type Hasher, hasherOf, type Sum } from './sum.js';

/** A file to download. */
export interface Wanted {
  readonly name: string;
  readonly url: string;
  /** The path to store it at. */
  readonly path: string;
  /** In bytes, if known. */
  readonly size?: number;
  readonly sum?: Sum;
  /** If true, it is no error that the host does not have it. */
  readonly isOptional?: boolean;
}

/** Options of `download`. */
export interface DownloadOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes present and the total size if it is known. */
  readonly onBytes?: (loaded: number, total: number | undefined) => void;
}

/** Downloads a file; false if it is optional and the host does not have it. Throws `HubError`, `StorageError`, or the signal's reason. */
export async function download(wanted: Wanted, options: DownloadOptions = {}): Promise<boolean> {
  const { path, name } = wanted;
  await makeFolder(dirname(path));
  for (let mismatches = 0; ; mismatches++) {
    const part = await Part.open(wanted);
    try {
      if (!(await fill(part, wanted, options))) {
        await part.discard();
        return false;
      }
      if (part.isRight) {
        await part.place();
        return true;
      }
      await part.discard();
    } catch (thrown) {
      const error = inWords(path, thrown);
      // A part file that did not fit is deleted to free its space.
      if (error instanceof StorageError) await part.discard();
      else part.close();
      throw error;
    }
    if (mismatches === 1) {
      throw new HubError(
        `${name} came with the wrong bytes twice: ${wanted.sum?.hex ?? `${wanted.size} bytes`} was expected. They were deleted. Try again later, or over another network.`,
      );
    }
  }
}

/** Appends what is missing, over as many connections as it takes; false if there is no such file. */
async function fill(part: Part, wanted: Wanted, options: DownloadOptions): Promise<boolean> {
  if (wanted.size !== undefined && part.size === wanted.size) return true;
  const { headers, signal, onBytes } = options;
  let most = part.size;
  // A response from the start is progress only beyond the bytes that an earlier attempt had reached.
  const gained = (): number => {
    most = Math.max(most, part.size);
    return most;
  };
  return ask(
    wanted,
    { headers: () => ({ ...headers, ...part.asksForRest }), signal, gained },
    async (response) => {
      const { status, ok, headers } = response;
      // Hosts of single-page applications answer 200 with their page for a missing file.
      const isPage = ok && /^text\/html\b/.test(headers.get('content-type') ?? '');
      // Hosts without directory listings answer 403 for a missing file.
      if (([401, 403, 404, 410].includes(status) || isPage) && wanted.isOptional) return false;
      if (status === 416 && part.size > 0) return true;
      if (!ok) throw passing(wanted, response) ?? refusal(wanted, response);
      if (isPage) throw insteadOf(wanted, 'a web page');
      gained();
      if (status === 200 && part.size > 0) part.restart();
      await part.expect(response);
      onBytes?.(part.size, part.total);
      await part.take(response.body!, () => onBytes?.(part.size, part.total));
      return true;
    },
  );
}

function refusal({ name, url }: Wanted, { status }: Response): HubError {
  const { host } = new URL(url);
  const gated =
    status === 401 || status === 403 ? ', as it does for what is not everyone’s: give a token' : '';
  return new HubError(`${host} does not give ${name} (${status})${gated}. Check the address.`);
}

function insteadOf({ name, url }: Wanted, what: string): HubError {
  return new HubError(
    `${new URL(url).host} answered with ${what} instead of ${name}. Check the address: some hosts answer with their own page where they have no file, and so does a network's login page, which another tab shows.`,
  );
}

/** What identifies a part file without a checksum: the ETag, by which the host tells whether the file has changed. */
interface Begun {
  readonly etag: string | undefined;
  readonly total: number | undefined;
}

/** A part file with the bytes received so far, beside the final path. */
class Part {
  private constructor(
    private readonly wanted: Wanted,
    private readonly path: string,
    private readonly writer: Writer,
    private hasher: Hasher | undefined,
    private begun: Begun | undefined,
  ) {}

  static async open(wanted: Wanted): Promise<Part> {
    // The checksum in the name ensures that the part belongs to this version of the file.
    const path = `${wanted.path}.${wanted.sum?.hex.slice(0, 16) ?? 'unsigned'}.part`;
    try {
      const { volume } = await placeOf(path);
      const begun = wanted.sum ? undefined : await begunOf(path);
      const hasher = hasherOf(wanted.sum, wanted.size);
      const held = await blobOf(path).catch(() => undefined);
      const writer = await volume.openWriter(path);
      const part = new Part(wanted, path, writer, hasher, begun);
      try {
        if (held && held.size > 0) await part.takeUp(held);
      } catch (error) {
        part.close();
        throw error;
      }
      return part;
    } catch (error) {
      throw inWords(path, error);
    }
  }

  get size(): number {
    return this.length;
  }

  get total(): number | undefined {
    return this.wanted.size ?? this.begun?.total;
  }

  get isRight(): boolean {
    const { size, sum } = this.wanted;
    return (size === undefined || size === this.length) && (!sum || this.hasher!.hex() === sum.hex);
  }

  get asksForRest(): Record<string, string> {
    if (this.length === 0) return {};
    const { etag } = this.begun ?? {};
    return { Range: `bytes=${this.length}-`, ...(etag && { 'If-Range': etag }) };
  }

  private length = 0;

  /** Resumes the part that an earlier visit left, unless neither a checksum nor an ETag identifies it. */
  private async takeUp(held: Blob): Promise<void> {
    const { size, sum } = this.wanted;
    const isOf = sum ? held.size <= (size ?? held.size) : this.begun?.etag !== undefined;
    if (!isOf) return this.restart();
    if (sum) await digest(held, this.hasher!);
    this.length = held.size;
  }

  restart(): void {
    this.writer.truncate(0);
    this.length = 0;
    this.hasher = hasherOf(this.wanted.sum, this.wanted.size);
  }

  /** Records the file's ETag and size from a response. Throws `HubError` if the size differs from the listed one. */
  async expect({ headers, status }: Response): Promise<void> {
    const encoded = headers.get('content-encoding') !== null;
    const told = headers.get('content-length');
    const rest = told === null || encoded ? undefined : Number(told);
    const total = rest === undefined ? undefined : rest + (status === 206 ? this.length : 0);
    const { size, name } = this.wanted;
    if (size !== undefined && total !== undefined && total !== size) {
      throw insteadOf({ ...this.wanted, name: `the ${size} bytes of ${name}` }, `${total} bytes`);
    }
    if (this.wanted.sum) return;
    // Only a strong ETag guarantees identical bytes.
    const etag = headers.get('etag');
    this.begun = { etag: etag?.startsWith('"') ? etag : undefined, total };
    await writeFileAtomic(`${this.path}.json`, JSON.stringify(this.begun));
  }

  /** Appends a response. Throws `StorageError` if there is too little space, and `TypeError` if the response ended early. */
  async take(body: ReadableStream<Uint8Array>, onBytes: () => void): Promise<void> {
    const reader = body.getReader();
    try {
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        this.append(next.value);
        onBytes();
        // A longer response is another file, possibly endless.
        if (this.total !== undefined && this.length > this.total) return;
      }
    } finally {
      reader.cancel().catch(() => {});
    }
    if (this.total !== undefined && this.length < this.total)
      throw new TypeError(`the answer ended after ${this.length} of ${this.total} bytes`);
  }

  private append(bytes: Uint8Array): void {
    try {
      this.writer.write(bytes, this.length);
    } catch (error) {
      throw inWords(this.wanted.path, error);
    }
    this.hasher?.update(bytes);
    this.length += bytes.byteLength;
  }

  private isClosed = false;

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.writer.close();
  }

  /** Renames the part to the final path. */
  async place(): Promise<void> {
    this.close();
    const { volume } = await placeOf(this.path);
    await volume.move(this.path, this.wanted.path);
    await remove(`${this.path}.json`);
  }

  async discard(): Promise<void> {
    try {
      this.close();
    } catch {
      // The part is deleted, so a failed write does not matter.
    }
    await remove(this.path);
    await remove(`${this.path}.json`);
  }
}

async function begunOf(path: string): Promise<Begun | undefined> {
  const text = await readText(`${path}.json`).catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Begun);
}

/** Whether the complete file with the expected size and checksum is at its path. */
export async function isLoaded({ path, size, sum }: Omit<Wanted, 'name' | 'url'>): Promise<boolean> {
  const stats = await statsOf(path).catch(() => undefined);
  if (stats?.kind !== 'file' || (size !== undefined && stats.size !== size)) return false;
  const hasher = hasherOf(sum, stats.size);
  if (!hasher) return true;
  await digest(await blobOf(path), hasher);
  return hasher.hex() === sum!.hex;
}

async function digest(file: Blob, hasher: Hasher): Promise<void> {
  for (let at = 0; at < file.size; at += 2 ** 22) {
    hasher.update(new Uint8Array(await file.slice(at, at + 2 ** 22).arrayBuffer()));
  }
}
