/** Which build of the kernels suits this machine, where that is more than a question of what the engine compiles. */
import { readFileSync } from 'node:fs';
import type { Simd } from './wasm/threads.js';

/**
 * Whether this V8 compiles WebAssembly's product of bytes with a sum well. That of Node.js 22 makes three instructions of it, and the first
 * compiler of Node.js 20 wrong numbers.
 */
export const compilesByteProducts = Number.parseInt(process.versions.v8, 10) >= 13;

/** `dot` where processor and engine multiply bytes and add the products up in one instruction; else what the engine compiles decides. */
export function suitedBuild(): Simd | undefined {
  return compilesByteProducts && hasInstruction() ? 'dot' : undefined;
}

function hasInstruction(): boolean {
  // All of Apple's have it; where nothing tells, it is not there.
  if (process.platform === 'darwin') return process.arch === 'arm64';
  try {
    return /^(flags|Features)\s*:.*\b(avx_vnni|asimddp)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false;
  }
}
