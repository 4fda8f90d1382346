/** Steps of a schedule before memory is planned: kernels and their operands, which still name buffers. */
import type { Kernel } from './codes.js';
import type { Buffer, View } from './value.js';

/** A word of a step: a number, or an address that is known once memory is planned. */
export type Word =
  | number
  | { readonly buffer: Buffer; readonly bytes: number }
  /** The table of the addresses of a state's rows (of pages' tables, where it grows), before or after the run. */
  | { readonly state: number; readonly side: 'before' | 'after' }
  /** A table of addresses in a buffer: `rows` of them, `stride` bytes from one to the next. */
  | { readonly table: Buffer; readonly bytes: number; readonly rows: number; readonly stride: number };

/**
 * How threads divide elements: they lie in lines of `length`, each cut between the threads in units of `unit`, and a thread does
 * the same part of every line. The kernels' `share` (memory.ts) says which.
 */
export interface Share {
  readonly length: number;
  readonly unit: number;
}

/** One step of a schedule: a kernel, its operands, and how threads divide its work. */
export interface Step {
  readonly kernel: Kernel;
  readonly words: readonly Word[];
  readonly reads: readonly Buffer[];
  readonly writes: readonly Buffer[];
  /** States whose pages it reads or writes. */
  readonly readsStates?: readonly number[];
  readonly writesStates?: readonly number[];
  /** How threads divide what it writes, and the operands that each reads along its own share alone, where a kernel says so. */
  readonly share?: (Share & { readonly along: readonly View[] }) | undefined;
  /** Of what it reads, what the same thread has made: for these it need not wait for the others. */
  readonly own?: ReadonlySet<Buffer>;
  /** The layer in which it stands, and what it does, for people. */
  readonly path: string;
  readonly label: string;
  /** Bytes of weights that it reads. */
  readonly weightBytes: number;
}

const float = new Float32Array(1);
const int = new Int32Array(float.buffer);

/** The bits of a float32. */
export function floatBits(x: number): number {
  float[0] = x;
  return int[0]!;
}
