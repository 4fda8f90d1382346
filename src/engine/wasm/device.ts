/** The executor `wasm`: kernels of our own in WebAssembly, run by threads over one shared memory. */
import { DeviceError } from '../../errors.js';
import { inputName, topologicalOrder } from '../../graph/index.js';
import { checkWeight } from '../check.js';
import type { Decoder, DecoderPrograms, Device, Program } from '../program.js';
import { WasmExecutable } from './executable.js';
import { SharedMemory } from './memory.js';
import { type Simd, Threads } from './threads.js';
import { Weights } from './weights.js';

export interface WasmOptions {
  /** Threads that compute, the calling one included. */
  threads: number;
  /** Which build of the kernels; the best that there is by default. Both give the same bits. */
  simd?: Simd | undefined;
}

export class WasmDevice implements Device {
  readonly name = 'wasm';
  readonly prefersLongRuns = false;
  readonly memory = new SharedMemory();
  readonly weights = new Weights(this.memory);
  readonly threads: Threads;
  private last: Promise<unknown> = Promise.resolve();

  /** Throws `DeviceError` where this engine lacks what the kernels need. */
  constructor({ threads, simd }: WasmOptions) {
    this.threads = new Threads(this.memory, threads, simd);
  }

  async compile(program: Program): Promise<WasmExecutable> {
    const { weights = new Map(), state = [], lengths } = program;
    const declared = new Set([
      ...program.inputs,
      ...state.map(({ before }) => before),
      ...(lengths ? [lengths] : []),
    ]);
    const roots = [...Object.values(program.outputs), ...state.map(({ after }) => after)];
    const fixed = program.dims ?? {};
    for (const { outputs } of topologicalOrder(roots)) {
      const tensor = outputs[0]!;
      const name = inputName(tensor);
      if (name === undefined || declared.has(tensor)) continue;
      const weight = weights.get(name);
      if (!weight) throw new DeviceError(`the program depends on '${name}', which it does not declare`);
      checkWeight({ name, dtype: tensor.dtype, shape: tensor.shape.map((dim) => fixed[dim] ?? dim) }, weight);
    }
    const placed = await this.weights.load(weights);
    return new WasmExecutable(this, program, placed);
  }

  async compileDecoder({ read, write }: DecoderPrograms): Promise<Decoder> {
    return { reader: await this.compile(read), writer: await this.compile(write) };
  }

  /** Runs one thing after the other: all programs share the threads. */
  exclusively<T>(run: () => Promise<T>): Promise<T> {
    const result = this.last.then(run);
    this.last = result.catch(() => undefined);
    return result;
  }

  async dispose(): Promise<void> {
    await this.exclusively(() => this.threads.stop());
  }
}
