/**
 * Installs XLA and the CUDA libraries into Heddle's own folder, for machines without Python: finds the wheels of JAX and NVIDIA
 * in the package index, downloads and checks them, and unpacks the libraries.
 *
 *   cuda/<version>/       the libraries in the layout of Python's site-packages; renamed into place when complete
 *   cuda/.downloads/      partly downloaded wheels (see `partial-file.ts`) and the lock of the process that downloads
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

/** Options of `setupCuda`. */
export interface CudaSetup {
  readonly index: Source;
  /** Called before the wheels are downloaded; false cancels the setup. */
  readonly confirm: (plan: CudaPlan) => Promise<boolean>;
  readonly onEvent?: (event: CudaSetupEvent) => void;
  readonly signal?: AbortSignal;
  readonly patience?: Patience;
  /** Parent folder of the installation; default: Heddle's own. */
  readonly folder?: string;
  /** Names and versions of packages; the version of the first names the folder. */
  readonly wheels?: readonly (readonly [name: string, version: string])[];
  readonly platform?: Platform;
}

/** The planned download. */
export interface CudaPlan {
  readonly wheels: number;
  /** Bytes of all wheels, and bytes left to download. */
  readonly bytes: number;
  readonly missingBytes: number;
  /** The folder that the libraries are unpacked into. */
  readonly folder: string;
}

/** Progress of a setup; `done` and `total` are in bytes. */
export type CudaSetupEvent =
  /** The index is queried for a package. */
  | { readonly event: 'asking'; readonly name: string }
  | { readonly event: 'unpacking'; readonly name: string; readonly done: number; readonly total: number }
  | TransferEvent;

/** Result of a setup. */
export interface CudaSetupResult {
  /** `present`: already installed. `declined`: `confirm` returned false. */
  readonly outcome: 'done' | 'present' | 'declined';
  readonly folder: string;
}

/** Upper bound of unpacked size / wheel size, for the check of free disk space before the download. */
const UNPACKED_RATIO = 2.5;

/**
 * Downloads and unpacks what is missing. An interrupted setup resumes where it stopped.
 *
 * @throws HubError when there are no libraries for the platform or the index does not have them; StorageError when the disk
 *   fails or another process is setting up; the signal's reason when it is aborted
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

/** This machine's platform. Throws `HubError` if the CUDA libraries do not run on it. */
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

  /** Returns false if the plan was declined. */
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

  /** The bytes left to download. Throws `StorageError` when the disk lacks the space for the wheels and the unpacked libraries. */
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

  /** Downloads and checks a wheel; returns its path. */
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

  /** Throws `HubError` when the wheels contain no XLA plugin; the unpacked files are then removed. */
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

  /** Deletes the wheels, and the partial downloads of earlier versions of Heddle. */
  async #forget(archives: readonly string[]): Promise<void> {
    const parts = (await readdir(this.downloads)).filter((name) => name.endsWith('.part'));
    for (const path of new Set([...archives, ...parts.map((name) => join(this.downloads, name))])) {
      await rm(path, { force: true });
    }
  }
}

/** Deletes the libraries of other versions. Programs that use them have the files open and are not affected. */
async function removeOthers(parent: string, folder: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const path = join(parent, name);
    if (path !== folder && /^\d/.test(name)) await rm(path, { recursive: true, force: true });
  }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toLocaleString('en', { maximumFractionDigits: 2 })} GB`;
}
