/** The steps of a schedule before memory planning: kernels with operands that refer to buffers. */
import type { Kernel } from './codes.js';
import type { Buffer, View } from './value.js';

/** A word of a step: a number, or an address that memory planning determines. */
export type Word =
  | number
  | { readonly buffer: Buffer; readonly bytes: number }
  /** The table of the addresses of a state's rows (of page tables, for growing states), before or after the run. */
  | { readonly state: number; readonly side: 'before' | 'after' }
  /** A table of `rows` addresses in a buffer, with a stride of `stride` bytes. */
  | { readonly table: Buffer; readonly bytes: number; readonly rows: number; readonly stride: number };

/**
 * A partition of elements over threads: each line of `length` elements is divided in units of `unit`, and a thread has the same part of every
 * line, which the kernels' function `share` (memory.ts) computes.
 */
export interface Share {
  readonly length: number;
  readonly unit: number;
}

/** One step of a schedule: a kernel, its operands, and the partition of its work. */
export interface Step {
  readonly kernel: Kernel;
  readonly words: readonly Word[];
  readonly reads: readonly Buffer[];
  readonly writes: readonly Buffer[];
  /** The states whose memory it reads or writes. */
  readonly readsStates?: readonly number[];
  readonly writesStates?: readonly number[];
  /** The partition of its result, and the operands that each thread reads only within its own part, if the kernel has such. */
  readonly share?: (Share & { readonly along: readonly View[] }) | undefined;
  /** The buffers that each thread reads only where it has written them itself, which need no barrier. */
  readonly own?: ReadonlySet<Buffer>;
  /** Its layer, for profiles. */
  readonly path: string;
  readonly label: string;
  /** The bytes of weights that it reads. */
  readonly weightBytes: number;
}

const float = new Float32Array(1);
const int = new Int32Array(float.buffer);

/** The bits of a float32. */
export function floatBits(x: number): number {
  float[0] = x;
  return int[0]!;
}
