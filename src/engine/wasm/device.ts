/** The executor `wasm`: our own kernels in WebAssembly, run by threads over one shared memory. */
import { checkProgram } from '../check.js';
import { compileAll } from '../compile-all.js';
import type { Decoder, DecoderPrograms, Device, Program } from '../program.js';
import { WasmExecutable } from './executable.js';
import { SharedMemory } from './memory.js';
import { type Simd, Threads } from './threads.js';
import { Weights } from './weights.js';

/** How the WebAssembly kernels run. */
export interface WasmOptions {
  /** The number of threads that compute, including the calling one. */
  threads: number;
  /** Which build of the kernels; by default `relaxed` if the JavaScript engine supports it. All builds give the same bits. */
  simd?: Simd | undefined;
  /** Called with the memory before it is used, and the number of bytes that it may grow to. */
  prepare?: (memory: WebAssembly.Memory, mostBytes: number) => void;
}

/** The WebAssembly kernels and their threads, which share one memory. */
export class WasmDevice implements Device {
  readonly name = 'wasm';
  readonly prefersLongRuns = false;
  readonly runsAhead = false;
  readonly memory = new SharedMemory();
  readonly weights = new Weights(this.memory);
  readonly threads: Threads;
  private last: Promise<unknown> = Promise.resolve();

  get addressable(): number {
    return this.memory.mostBytes;
  }

  /** Throws `DeviceError` if the JavaScript engine lacks a feature that the kernels need. */
  constructor({ threads, simd, prepare }: WasmOptions) {
    prepare?.(this.memory.memory, this.memory.mostBytes);
    this.threads = new Threads(this.memory, threads, simd);
  }

  async compile(program: Program): Promise<WasmExecutable> {
    checkProgram(program);
    const placed = await this.weights.load(program.weights ?? new Map());
    return new WasmExecutable(this, program, placed);
  }

  /** Throws `DeviceLimitError` if the weights of a program do not fit into memory; otherwise returns true. */
  expectRoom({ weights = new Map() }: Program): true {
    this.weights.expectRoom(weights);
    return true;
  }

  async compileDecoder({ read, write }: DecoderPrograms): Promise<Decoder> {
    const [reader, writer] = await compileAll(
      () => this.compile(read),
      () => this.compile(write),
    );
    return { reader: reader!, writer: writer! };
  }

  /** Serializes runs, since all programs share the threads. */
  exclusively<T>(run: () => Promise<T>): Promise<T> {
    const result = this.last.then(run);
    this.last = result.catch(() => undefined);
    return result;
  }

  async dispose(): Promise<void> {
    await this.exclusively(() => this.threads.stop());
  }
}
