/** Loads koffi, which calls C functions from Node.js: only where a PJRT plugin is asked for. */
import { createRequire } from 'node:module';
import { DeviceError } from '../../../errors.js';

export type Koffi = typeof import('koffi');

/** XLA compiles deep programs recursively. koffi runs calls on stacks of its own, of 128 kB in threads if nothing is said. */
const STACK_BYTES = 16 * 2 ** 20;

let loaded: Koffi | undefined;
/** koffi unloads a library whose handle is collected, and XLA cannot be unloaded. */
const libraries = new Map<string, ReturnType<Koffi['load']>>();

/** Throws `DeviceError` where koffi is not installed or does not run here. */
export async function loadKoffi(): Promise<Koffi> {
  if (loaded) return loaded;
  const koffi = load();
  try {
    koffi.config({
      sync_stack_size: STACK_BYTES,
      async_stack_size: STACK_BYTES,
      resident_async_pools: 2,
    });
  } catch {
    // Someone else in this process has called C before: their sizes stay.
  }
  loaded = koffi;
  return koffi;
}

function load(): Koffi {
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch (error) {
    throw new DeviceError(
      'koffi, which calls XLA, is not installed: add it to your project with npm install koffi@3',
      { cause: error },
    );
  }
}

/** A shared library, loaded once and for good; with its symbols for all others where `global`. Throws what the system's linker says. */
export function loadLibrary(koffi: Koffi, path: string, { global = false } = {}): ReturnType<Koffi['load']> {
  let library = libraries.get(path);
  if (!library) {
    library = koffi.load(path, { global });
    libraries.set(path, library);
  }
  return library;
}
