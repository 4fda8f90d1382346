/**
 * XLA and the CUDA libraries in a folder of Heddle's own, for machines without Python: the wheels that JAX and NVIDIA publish
 * are found in the package index, downloaded, checked, and of what is in them the libraries are unpacked.
 *
 *   cuda/<version>/       the libraries, laid out as in Python's site-packages; it appears whole
 *   cuda/.downloads/      wheels on their way (see `part.ts`), and who is downloading (see `lock.ts`)
 */
import { readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { inWords, writeFolderAtomic } from '../../checkpoint/index.js';
import { pluginIn, setupFolder } from '../../engine/cuda-libraries.js';
import { HubError, StorageError } from '../../errors.js';
import { lockFolder } from '../../platform/node/lock.js';
import { Connection, type Source } from '../connection.js';
import { fetchFile, type TransferEvent } from '../download.js';
import { PATIENCE, type Patience } from '../patience.js';
import { findWheel, type Platform, type Wheel } from './package-index.js';
import { unpack, unpackedSize } from './unpack.js';
import { isWanted, WHEELS } from './wheels.js';

/** Where XLA's plugin and the CUDA libraries come from, and where they go. */
export interface CudaSetup {
  readonly index: Source;
  /** Asked before anything large is downloaded. */
  readonly confirm: (plan: CudaPlan) => Promise<boolean>;
  readonly onEvent?: (event: CudaSetupEvent) => void;
  readonly signal?: AbortSignal;
  readonly patience?: Patience;
  /** Where the libraries go: Heddle's own folder by default. */
  readonly folder?: string;
  /** Names and versions of packages; the first one's version names the folder. */
  readonly wheels?: readonly (readonly [name: string, version: string])[];
  readonly platform?: Platform;
}

/** What a setup is about to download. */
export interface CudaPlan {
  readonly wheels: number;
  /** Bytes of all wheels, and of those that are still to come. */
  readonly bytes: number;
  readonly missingBytes: number;
  /** The folder that will hold them. */
  readonly folder: string;
}

/** How a setup goes on. `done` and `total` are bytes. */
export type CudaSetupEvent =
  /** The index is asked for a package. */
  | { readonly event: 'asking'; readonly name: string }
  | { readonly event: 'unpacking'; readonly name: string; readonly done: number; readonly total: number }
  | TransferEvent;

/** What a setup did. */
export interface CudaSetupResult {
  /** `present`: it was there already. `declined`: `confirm` said no. */
  readonly outcome: 'done' | 'present' | 'declined';
  readonly folder: string;
}

/** What unpacked libraries take beside a wheel, at most: the disk is looked at before the download. */
const UNPACKED_RATIO = 2.5;

/**
 * Downloads and unpacks what is missing. An interrupted setup goes on where it stopped.
 *
 * @throws HubError where the platform has no such libraries, or the index does not give them; StorageError where the disk fails or another
 *   process sets up; and the signal's reason when that is aborted
 */
export async function setupCuda(setup: CudaSetup): Promise<CudaSetupResult> {
  const { wheels = WHEELS, folder: parent = setupFolder(), platform = platformHere() } = setup;
  const folder = join(parent, wheels[0]![1]);
  if (pluginIn([folder], 'heddle setup cuda')) return { outcome: 'present', folder };
  const downloads = join(parent, '.downloads');
  const unlock = await lockFolder(downloads, parent).catch((error: unknown) => {
    throw inWords(parent, error);
  });
  try {
    const done = await new Setup(setup, folder, downloads).run(wheels, platform);
    if (!done) return { outcome: 'declined', folder };
    await removeOthers(parent, folder);
    return { outcome: 'done', folder };
  } finally {
    await unlock();
  }
}

/** This machine. Throws `HubError` where CUDA's libraries do not run. */
function platformHere(): Platform {
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string];
  const { glibcVersionRuntime: glibc } = (
    process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  ).header;
  if (process.platform !== 'linux' || machine === undefined || glibc === undefined) {
    throw new HubError(
      `there are no CUDA libraries for ${process.platform}/${process.arch}${process.platform === 'linux' ? ' without glibc (Alpine has another C library)' : ''}: they run on Linux, x64 or arm64${process.platform === 'win32' ? '; WSL 2 is one' : ''}.`,
    );
  }
  const [major, minor] = glibc.split('.').map(Number);
  return { machine, glibc: [major!, minor!] };
}

class Setup {
  readonly #connection: Connection;
  readonly #emit: (event: CudaSetupEvent) => void;
  #total = 0;
  #placed = 0;
  #received = 0;

  constructor(
    private readonly setup: CudaSetup,
    private readonly folder: string,
    private readonly downloads: string,
  ) {
    const { index, patience = PATIENCE, signal, onEvent = () => {} } = setup;
    this.#emit = onEvent;
    this.#connection = new Connection(index, patience, signal, (seconds, reason) =>
      this.#emit({ event: 'waiting', seconds, reason }),
    );
  }

  /** False where the plan is declined. */
  async run(wanted: NonNullable<CudaSetup['wheels']>, platform: Platform): Promise<boolean> {
    const { index, confirm } = this.setup;
    const wheels: Wheel[] = [];
    for (const wheel of wanted) {
      this.#emit({ event: 'asking', name: wheel[0] });
      wheels.push(await findWheel(this.#connection, index, wheel, platform));
    }
    const missingBytes = await this.#expectRoom(wheels);
    const bytes = wheels.reduce((all, { size }) => all + size, 0);
    this.#total = bytes;
    if (!(await confirm({ wheels: wheels.length, bytes, missingBytes, folder: this.folder }))) return false;
    const archives: string[] = [];
    for (const wheel of wheels) archives.push(await this.#fetch(wheel));
    await this.#unpack(wheels, archives);
    await this.#forget(archives);
    return true;
  }

  #partOf({ sum }: Wheel): string {
    return join(this.downloads, `${sum.hex}.part`);
  }

  /** The bytes that are still to come. Throws `StorageError` where the disk does not have what all of it takes. */
  async #expectRoom(wheels: readonly Wheel[]): Promise<number> {
    let missing = 0;
    let all = 0;
    for (const wheel of wheels) {
      const there = (await stat(this.#partOf(wheel)).catch(() => undefined))?.size ?? 0;
      missing += there > wheel.size ? wheel.size : wheel.size - there;
      all += wheel.size;
    }
    await this.#expectFree(missing + all * UNPACKED_RATIO);
    return missing;
  }

  async #expectFree(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.downloads);
    const free = bavail * bsize;
    if (bytes <= free) return;
    throw new StorageError(
      `The CUDA libraries take up to ${gigabytes(bytes)} while they are unpacked, and the disk of ${this.downloads} has ${gigabytes(free)} free. Free some space, or set XDG_CACHE_HOME to a folder on another disk.`,
    );
  }

  /** A wheel's path, all of it there and checked. */
  async #fetch(wheel: Wheel): Promise<string> {
    const { name, size, url } = wheel;
    const { index, signal } = this.setup;
    const part = await fetchFile(this.#connection, wheel, {
      url,
      part: this.#partOf(wheel),
      listedBy: 'the package index',
      setting: index.setting,
      signal,
      onChecking: (done) => this.#emit({ event: 'checking', name, done, total: size }),
      onMismatch: () => this.#emit({ event: 'mismatch', name }),
      onBytes: (received, done) => {
        this.#received += received;
        this.#emit({
          event: 'downloading',
          name,
          done: this.#placed + done,
          total: this.#total,
          received: this.#received,
        });
      },
    });
    await part.close();
    this.#placed += size;
    return part.path;
  }

  /** Throws `HubError` where no plugin is in what was unpacked; then nothing stays of it. */
  async #unpack(wheels: readonly Wheel[], archives: readonly string[]): Promise<void> {
    const { signal } = this.setup;
    const jobs = wheels.map(({ name }, i) => ({ archive: archives[i]!, name, wanted: isWanted, signal }));
    let total = 0;
    for (const job of jobs) total += await unpackedSize(job);
    await this.#expectFree(total);
    let done = 0;
    await writeFolderAtomic(this.folder, async (into) => {
      for (const job of jobs) {
        const onBytes = (bytes: number): void => {
          done += bytes;
          this.#emit({ event: 'unpacking', name: job.name, done, total });
        };
        await unpack({ ...job, into, onBytes });
      }
      if (!pluginIn([into], 'heddle setup cuda')) {
        throw new HubError(
          `there is no XLA plugin in ${wheels.map(({ name }) => name).join(', ')}: the package index gives something else under their names.`,
        );
      }
    });
  }

  /** The wheels are not needed any more, and neither is what an earlier version of Heddle began to download. */
  async #forget(archives: readonly string[]): Promise<void> {
    const parts = (await readdir(this.downloads)).filter((name) => name.endsWith('.part'));
    for (const path of new Set([...archives, ...parts.map((name) => join(this.downloads, name))])) {
      await rm(path, { force: true });
    }
  }
}

/** Libraries of other versions, which nobody would load any more. Programs that run have them open, and keep them. */
async function removeOthers(parent: string, folder: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const path = join(parent, name);
    if (path !== folder && /^\d/.test(name)) await rm(path, { recursive: true, force: true });
  }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toLocaleString('en', { maximumFractionDigits: 2 })} GB`;
}
