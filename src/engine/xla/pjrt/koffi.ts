/** Loads koffi, the foreign function interface for calling C from Node.js. It is fetched when a PJRT plugin is first used. */
import { createRequire } from 'node:module';
import { DeviceError } from '../../../errors.js';
import { fetchedKoffi, fetchKoffi, KOFFI } from './fetch-koffi.js';

/** The module koffi, which calls C. */
export type Koffi = typeof import('koffi');

/** XLA compiles deep programs recursively, and koffi runs calls on stacks of its own, by default of 128 kB in threads. */
const STACK_BYTES = 16 * 2 ** 20;

const require = createRequire(import.meta.url);

let loading: Promise<Koffi> | undefined;
/** koffi unloads a library whose handle is collected, and XLA cannot be unloaded. */
const libraries = new Map<string, ReturnType<Koffi['load']>>();

/**
 * koffi: the project's own, otherwise one that was fetched earlier, otherwise it is fetched now, with a line on standard error. Throws
 * `DeviceError` if it cannot be fetched or does not run here.
 */
export async function loadKoffi(): Promise<Koffi> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

/** koffi, if it is installed or was fetched earlier. Throws `DeviceError` if it does not run here. */
export function koffiIfThere(): Koffi | undefined {
  const koffi = installed() ?? fetched();
  return koffi && prepared(koffi);
}

function fetched(): Koffi | undefined {
  const path = fetchedKoffi();
  return path === undefined ? undefined : from(path);
}

async function load(): Promise<Koffi> {
  return prepared(installed() ?? from(fetchedKoffi() ?? (await fetchNow())));
}

function prepared(koffi: Koffi): Koffi {
  try {
    koffi.config({
      sync_stack_size: STACK_BYTES,
      async_stack_size: STACK_BYTES,
      resident_async_pools: 2,
    });
  } catch {
    // Other code of this process has used koffi before; the sizes can no longer be changed.
  }
  return koffi;
}

/** Where a thread imports koffi from. Throws `DeviceError` where it is neither installed nor fetched. */
export function koffiPath(): string {
  if (installed()) return require.resolve('koffi');
  const path = fetchedKoffi();
  if (path === undefined) throw new DeviceError('koffi is neither installed nor fetched');
  return path;
}

function installed(): Koffi | undefined {
  try {
    require.resolve('koffi');
  } catch {
    return undefined;
  }
  const koffi = from('koffi');
  // Before version 3 pointers were not numbers.
  return Number.parseInt(koffi.version, 10) >= 3 ? koffi : undefined;
}

/** Fetches koffi if it is missing. Throws `DeviceError` as `loadKoffi` does. */
export async function ensureKoffi(): Promise<void> {
  if (!installed() && !fetchedKoffi()) await fetchKoffi();
}

async function fetchNow(): Promise<string> {
  process.stderr.write(
    `fetching koffi ${KOFFI.version} from the npm registry (3 MB, once; it calls XLA for Heddle)\n`,
  );
  return fetchKoffi();
}

function from(path: string): Koffi {
  try {
    return require(path) as Koffi;
  } catch (error) {
    throw new DeviceError(
      `koffi in ${path} cannot be loaded on ${process.platform}/${process.arch}: ${error instanceof Error ? error.message : error}`,
      { cause: error },
    );
  }
}

/** Loads a shared library once and never unloads it; with `global`, its symbols are visible to other libraries. Throws the dynamic linker's error. */
export function loadLibrary(koffi: Koffi, path: string, { global = false } = {}): ReturnType<Koffi['load']> {
  let library = libraries.get(path);
  if (!library) {
    library = koffi.load(path, { global });
    libraries.set(path, library);
  }
  return library;
}
