/**
 * WebAssembly memory in huge pages. glibc's tunable (huge-pages.ts) does not apply to it, since V8 maps the memory itself, so `madvise` is
 * called through koffi, if koffi is installed. Decoding is faster with huge pages and works without them.
 */
import { koffiIfThere } from './xla/pjrt/koffi.js';

const MADV_HUGEPAGE = 14;

/** Calls `madvise(MADV_HUGEPAGE)` on a memory, for its maximum size. Returns whether that succeeded. */
export function askForHugePages(memory: WebAssembly.Memory, mostBytes: number): boolean {
  if (process.platform !== 'linux') return false;
  try {
    const koffi = koffiIfThere();
    if (!koffi) return false;
    const madvise = koffi.load(null).func('int madvise(uintptr_t address, size_t bytes, int advice)');
    return madvise(koffi.address(Buffer.from(memory.buffer, 0, 1)), mostBytes, MADV_HUGEPAGE) === 0;
  } catch {
    // koffi does not run here, or the system has no huge pages.
    return false;
  }
}
