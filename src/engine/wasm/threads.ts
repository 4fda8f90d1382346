/** The threads that run schedules: the calling one and workers, each with an instance of the kernels. */
import { enableRelaxedSimd, nextTurn, startThread, type Thread } from '#platform';
import { DeviceError, DeviceLimitError } from '../../errors.js';
import { BINARIES } from './binary.js';
import type { SharedMemory } from './memory.js';
import type { Schedule } from './schedule.js';

/** Which build of the kernels runs; all compute the same bits. */
export type Simd = keyof typeof BINARIES;

interface Kernels {
  place(control: number, scratch: number, thread: number): void;
  begin(counters: number, start: number, end: number, threads: number, times: number): void;
  run(start: number, end: number, threads: number): number;
}

/** Bytes of the control block, and of a thread's scratch memory. */
const CONTROL_BYTES = 512;
const SCRATCH_BYTES = 65536;
/** Words of the control block; see kernels/memory.ts. */
const JOB = 192 / 4;
const FAILURE = 384 / 4;

const modules = new Map<Simd, WebAssembly.Module>();

/** The compiled kernels of a build. Throws `DeviceLimitError` if the JavaScript engine has no SIMD or no threads. */
function moduleOf(simd: Simd): WebAssembly.Module {
  let module = modules.get(simd);
  if (!module) {
    try {
      const binary = Uint8Array.from(atob(BINARIES[simd]), (character) => character.charCodeAt(0));
      if (simd !== 'plain' && !WebAssembly.validate(binary)) enableRelaxedSimd();
      module = new WebAssembly.Module(binary);
    } catch (error) {
      throw new DeviceLimitError(
        `this JavaScript engine cannot compile the kernels of the wasm device, which need WebAssembly with SIMD and threads: use Node 20.19 or later, or the cpu device`,
        { cause: error },
      );
    }
    modules.set(simd, module);
  }
  return module;
}

/** The best build that the JavaScript engine compiles. */
function bestModule(simd: Simd | undefined): WebAssembly.Module {
  if (simd) return moduleOf(simd);
  try {
    return moduleOf('relaxed');
  } catch {
    return moduleOf('plain');
  }
}

/** The source of a worker, in plain JavaScript, since it is passed as text and cannot use this module. */
const WORKER = `({ module, memory, control, scratch, thread, seen }, ready) => {
  const env = { memory, now: () => performance.now(), abort: () => { throw new Error('a kernel gave up'); } };
  const { exports } = new WebAssembly.Instance(module, { env });
  exports.place(control, scratch, thread);
  ready();
  exports.work(seen);
}`;

/** The calling thread and its workers, which are started at the first run. */
export class Threads {
  private readonly module: WebAssembly.Module;
  private readonly kernels: Kernels;
  private readonly control: number;
  private readonly scratch: number;
  private workers: Thread[] = [];
  private starting: Promise<void> | undefined;
  private death: string | undefined;

  constructor(
    private readonly memory: SharedMemory,
    readonly count: number,
    simd?: Simd,
  ) {
    this.module = bestModule(simd);
    this.control = memory.allocate(CONTROL_BYTES);
    this.scratch = memory.allocate(count * SCRATCH_BYTES);
    memory.bytes.fill(0, this.control, this.control + CONTROL_BYTES);
    const env = {
      memory: memory.memory,
      now: () => performance.now(),
      abort: () => {
        throw new Error('a kernel gave up');
      },
    };
    this.kernels = new WebAssembly.Instance(this.module, { env }).exports as unknown as Kernels;
    this.kernels.place(this.control, this.scratch, 0);
  }

  /** Starts the workers. Throws `DeviceError` where that fails. */
  start(): Promise<void> {
    this.starting ??= this.launch();
    return this.starting;
  }

  private async launch(): Promise<void> {
    this.death = undefined;
    const words = this.memory.int32(this.control, CONTROL_BYTES / 4);
    words.fill(0);
    this.workers = Array.from({ length: this.count - 1 }, (_, i) => this.spawn(i + 1, words[JOB]!));
    try {
      await Promise.all(this.workers.map(({ ready }) => ready));
    } catch (error) {
      await this.stop();
      throw new DeviceError(`a thread of the wasm device could not be started: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  private spawn(thread: number, seen: number): Thread {
    const worker = startThread(WORKER, {
      module: this.module,
      memory: this.memory.memory,
      control: this.control,
      scratch: this.scratch + thread * SCRATCH_BYTES,
      thread,
      seen,
    });
    worker.ended.then((why) => {
      if (this.workers.includes(worker)) this.death ??= why;
    });
    return worker;
  }

  /**
   * Runs a schedule. The milliseconds of each step (float64) are added at the address `times`, unless it is 0. Throws `DeviceError` if a
   * worker has died, or for values that a kernel cannot take, such as an index out of range.
   */
  async run({ block, start, end }: Schedule, times = 0): Promise<void> {
    if (start === end) return;
    const threads = this.count;
    if (threads > 1) await this.start();
    this.kernels.begin(block, start, end, threads, times);
    for (let at = await this.advance(start, end, threads); at !== 0; ) {
      // The other threads have not responded for long. The event of a worker's end is delivered in another turn of the event loop.
      await nextTurn();
      if (this.death !== undefined) {
        const why = this.death;
        await this.stop();
        throw new DeviceError(
          `a thread of the wasm device died in the middle of a run (${why}); states are as they were before it`,
        );
      }
      at = await this.advance(at, end, threads);
    }
    const words = this.memory.int32(this.control, CONTROL_BYTES / 4);
    if (words[FAILURE] !== 0) {
      words[FAILURE] = 0;
      throw new DeviceError('an index lies outside of the table or the axis that it points into');
    }
  }

  private async advance(start: number, end: number, threads: number): Promise<number> {
    try {
      return this.kernels.run(start, end, threads) >>> 0;
    } catch (error) {
      // Otherwise the other threads would wait for this one forever.
      await this.stop();
      throw new DeviceError(`a kernel of the wasm device failed: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  /** Ends the workers; the next run starts new ones. */
  async stop(): Promise<void> {
    const { workers } = this;
    this.workers = [];
    this.starting = undefined;
    await Promise.all(workers.map((worker) => worker.terminate()));
  }

  /** The workers, for tests of what happens when one dies. */
  get running(): readonly Thread[] {
    return this.workers;
  }
}
