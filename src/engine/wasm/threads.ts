/** Threads that run a schedule together: the calling one and workers, each with an instance of the kernels. */
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { DeviceError, DeviceLimitError } from '../../errors.js';
import { BINARIES } from './binary.js';
import type { SharedMemory } from './memory.js';
import type { Schedule } from './schedule.js';

/** Which build of the kernels runs; both compute the same bits. */
export type Simd = keyof typeof BINARIES;

interface Kernels {
  place(control: number, scratch: number, thread: number): void;
  begin(counters: number, start: number, end: number, threads: number, times: number): void;
  run(start: number, end: number, threads: number): number;
}

/** Bytes of the words that threads wait for, and of a thread's scratch memory. */
const CONTROL_BYTES = 512;
const SCRATCH_BYTES = 65536;
/** Where in the control block a kernel says what was wrong; see kernels/memory.ts. */
const JOB = 192 / 4;
const FAILURE = 384 / 4;

const modules = new Map<Simd, WebAssembly.Module>();

/** The compiled kernels of a build. Throws `DeviceLimitError` where this engine has no SIMD or no threads. */
function moduleOf(simd: Simd): WebAssembly.Module {
  let module = modules.get(simd);
  if (!module) {
    try {
      const binary = Buffer.from(BINARIES[simd], 'base64');
      // Node 20 has relaxed SIMD behind this flag, which later versions do not know.
      if (simd === 'relaxed' && !WebAssembly.validate(binary)) {
        setFlagsFromString('--experimental-wasm-relaxed-simd');
      }
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

/** The better build that this engine compiles. */
function bestModule(simd: Simd | undefined): WebAssembly.Module {
  if (simd) return moduleOf(simd);
  try {
    return moduleOf('relaxed');
  } catch {
    return moduleOf('plain');
  }
}

/** Plain JavaScript, handed over as text: a worker then needs no file of ours. */
const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const { module, memory, control, scratch, thread, seen } = workerData;
const env = { memory, now: () => performance.now(), abort: () => { throw new Error('a kernel gave up'); } };
const { exports } = new WebAssembly.Instance(module, { env });
exports.place(control, scratch, thread);
parentPort.postMessage('ready');
exports.work(seen);
`;

export class Threads {
  private readonly module: WebAssembly.Module;
  private readonly kernels: Kernels;
  private readonly control: number;
  private readonly scratch: number;
  private workers: Worker[] = [];
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
      await Promise.all(
        this.workers.map(
          (worker) =>
            new Promise<void>((resolve, reject) => {
              worker.once('message', () => resolve());
              worker.once('error', reject);
              worker.once('exit', () => reject(new Error('it ended at once')));
            }),
        ),
      );
    } catch (error) {
      await this.stop();
      throw new DeviceError(`a thread of the wasm device could not be started: ${(error as Error).message}`, {
        cause: error,
      });
    }
    // A process may end while they wait for work.
    for (const worker of this.workers) worker.unref();
  }

  private spawn(thread: number, seen: number): Worker {
    const worker = new Worker(WORKER, {
      eval: true,
      workerData: {
        module: this.module,
        memory: this.memory.memory,
        control: this.control,
        scratch: this.scratch + thread * SCRATCH_BYTES,
        thread,
        seen,
      },
    });
    const died = (why: string): void => {
      if (this.workers.includes(worker)) this.death ??= why;
    };
    worker.on('error', (error) => died((error as Error).message));
    worker.on('exit', (code) => died(`it ended with code ${code}`));
    return worker;
  }

  /**
   * Runs a schedule. `times` is where the milliseconds of each step are added (float64), or 0. Throws `DeviceError` where a
   * worker died or values were not what a kernel can take.
   */
  async run({ block, start, end }: Schedule, times = 0): Promise<void> {
    if (start === end) return;
    const threads = this.count;
    if (threads > 1) await this.start();
    this.kernels.begin(block, start, end, threads, times);
    for (let at = await this.advance(start, end, threads); at !== 0; ) {
      // The others have been silent for long. News of a worker's end comes between turns of the event loop.
      await new Promise((resolve) => setImmediate(resolve));
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
      // The others wait for this thread now, and would for ever.
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
  get running(): readonly Worker[] {
    return this.workers;
  }
}
