/**
 * Memory of WebAssembly in huge pages. glibc's setting (see huge-pages.ts) does not reach it, since V8 maps it itself: Linux is asked by
 * `madvise`, which koffi calls where there is one. Models write faster with it, and do without.
 */
import { koffiIfThere } from './xla/pjrt/koffi.js';

const MADV_HUGEPAGE = 14;

/** Asks for huge pages for all that the memory has, and may grow to. Returns whether Linux agreed. */
export function askForHugePages(memory: WebAssembly.Memory, mostBytes: number): boolean {
  if (process.platform !== 'linux') return false;
  try {
    const koffi = koffiIfThere();
    if (!koffi) return false;
    const madvise = koffi.load(null).func('int madvise(uintptr_t address, size_t bytes, int advice)');
    return madvise(koffi.address(Buffer.from(memory.buffer, 0, 1)), mostBytes, MADV_HUGEPAGE) === 0;
  } catch {
    // A koffi that does not run here, or a system that has no huge pages.
    return false;
  }
}
