/** Chooses between builds of the kernels that this JavaScript engine compiles equally, by the processor. */
import { readFileSync } from 'node:fs';
import type { Simd } from './wasm/threads.js';

/**
 * Whether this V8 compiles WebAssembly's dot product of bytes (`i32x4.relaxed_dot_i8x16_i7x16_add`) to one instruction. Node.js 22 emits
 * three, and the baseline compiler of Node.js 20 emits code with wrong results.
 */
export const compilesByteProducts = Number.parseInt(process.versions.v8, 10) >= 13;

/** `dot` if processor and engine have a dot product of bytes in one instruction; otherwise undefined, and the engine's features decide. */
export function suitedBuild(): Simd | undefined {
  return compilesByteProducts && hasInstruction() ? 'dot' : undefined;
}

function hasInstruction(): boolean {
  // All Apple processors have it. Where the system does not list features, assume that it is missing.
  if (process.platform === 'darwin') return process.arch === 'arm64';
  try {
    return /^(flags|Features)\s*:.*\b(avx_vnni|asimddp)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false;
  }
}
