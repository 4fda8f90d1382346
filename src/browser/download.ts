/**
 * Files over the network into the browser's own storage: what has come stays there when the tab is closed, the rest is asked
 * for, and all of it is checked before it counts.
 */
import { dirname, inWords, makeFolder, readText, statsOf, writeFileAtomic } from '#platform';
import { HubError, StorageError } from '../errors.js';
import { blobOf, placeOf, remove, type Writer } from '../platform/browser/storage.js';
import { ask, passing } from './patience.js';
import { type Hasher, hasherOf, type Sum } from './sum.js';

/** A file to be had. */
export interface Wanted {
  readonly name: string;
  readonly url: string;
  /** Where it is to lie. */
  readonly path: string;
  /** As far as somebody has told. */
  readonly size?: number;
  readonly sum?: Sum;
  /** Nothing is wrong where the host does not have it. */
  readonly isOptional?: boolean;
}

/** How a file is downloaded. */
export interface DownloadOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** `loaded` bytes are there, of `total`, where that is known. */
  readonly onBytes?: (loaded: number, total: number | undefined) => void;
}

/** Loads a file; false where the host does not have one that is optional. Throws `HubError`, `StorageError`, or the signal's reason. */
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
      // A part that did not fit is deleted, so that it takes no room.
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

/** Appends what is missing, over as many connections as that takes; false where there is no such file. */
async function fill(part: Part, wanted: Wanted, options: DownloadOptions): Promise<boolean> {
  if (wanted.size !== undefined && part.size === wanted.size) return true;
  const { headers, signal, onBytes } = options;
  let most = part.size;
  // An answer from the beginning brings nothing as long as it has no more than there was.
  const gained = (): number => {
    most = Math.max(most, part.size);
    return most;
  };
  return ask(
    wanted,
    { headers: () => ({ ...headers, ...part.asksForRest }), signal, gained },
    async (response) => {
      const { status, ok } = response;
      // Hosts that list nothing answer 403 for what they do not have.
      if ([401, 403, 404, 410].includes(status) && wanted.isOptional) return false;
      if (status === 416 && part.size > 0) return true;
      if (!ok) throw passing(wanted, response) ?? refusal(wanted, response);
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

/** What is known of a part without a checksum: the ETag by which the host tells whether it is still the same file. */
interface Begun {
  readonly etag: string | undefined;
  readonly total: number | undefined;
}

/** The bytes that have come so far, under a name beside the file's own. */
class Part {
  private constructor(
    private readonly wanted: Wanted,
    private readonly path: string,
    private readonly writer: Writer,
    private hasher: Hasher | undefined,
    private begun: Begun | undefined,
  ) {}

  static async open(wanted: Wanted): Promise<Part> {
    // The checksum in the name makes sure that what was begun belongs to these very bytes.
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

  /** Notes what an answer says of the file as a whole. Throws `HubError` for another size than was told. */
  async expect({ headers, status }: Response): Promise<void> {
    const encoded = headers.get('content-encoding') !== null;
    const told = headers.get('content-length');
    const rest = told === null || encoded ? undefined : Number(told);
    const total = rest === undefined ? undefined : rest + (status === 206 ? this.length : 0);
    const { size, name } = this.wanted;
    if (size !== undefined && total !== undefined && total !== size) {
      throw new HubError(
        `the host answered with ${total} bytes instead of the ${size} bytes of ${name}. A network's login page does that: look at it in another tab.`,
      );
    }
    if (this.wanted.sum) return;
    // Only a strong one says that the bytes are the same.
    const etag = headers.get('etag');
    this.begun = { etag: etag?.startsWith('"') ? etag : undefined, total };
    await writeFileAtomic(`${this.path}.json`, JSON.stringify(this.begun));
  }

  /** Appends an answer. Throws `StorageError` where there is no more room, and a `TypeError` where not all came that was to come. */
  async take(body: ReadableStream<Uint8Array>, onBytes: () => void): Promise<void> {
    const reader = body.getReader();
    try {
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        this.append(next.value);
        onBytes();
        // More than the whole file is another one, which may have no end.
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

  /** Gives the file its own name. */
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
      // Whether it could be written to its end is of no matter any more.
    }
    await remove(this.path);
    await remove(`${this.path}.json`);
  }
}

async function begunOf(path: string): Promise<Begun | undefined> {
  const text = await readText(`${path}.json`).catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Begun);
}

/** Whether a file is there whole, with the bytes that are wanted. */
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
