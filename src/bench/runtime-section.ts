/**
 * The race of runtimes: quantized models with random weights read and write, ours and a peer's by turns, each in a process of
 * its own. Both answer the same tasks; the best of the rounds counts, since whatever else the machine does only slows. Both have
 * their memory in huge pages, as the `heddle` command has.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { withHugePages } from '../engine/huge-pages.js';
import { countParameters, parametersOf, type Quantization } from '../models/index.js';
import { LineProcess } from './line-process.js';
import { writeRandomQuantized } from './random-checkpoint.js';
import { SHAPES, type ShapeName } from './shapes.js';

/** What a contender is asked to do. */
export interface RuntimeTask {
  readonly kind: 'prefill' | 'decode';
  /** To read, or that came before those written. */
  readonly tokens: number;
}

const readySchema = z.object({ seconds: z.number().positive(), heldBytes: z.number().positive() });
const answerSchema = z.object({ tokensPerSecond: z.number().positive(), peakBytes: z.number().positive() });
/** A contender has loaded its model: seconds, and bytes that it holds then. */
export type RuntimeReady = z.output<typeof readySchema>;
/** What a task took, and the most bytes that were held until then. */
export type RuntimeAnswer = z.output<typeof answerSchema>;

/** Which models race, in what, and how often. */
export interface RuntimePlan {
  readonly shapes: readonly ShapeName[];
  readonly quantizations: readonly Quantization[];
  readonly tasks: readonly RuntimeTask[];
  readonly rounds: number;
  readonly threads: number;
  /** The folder of a peer, if there is one: see bench/peers/node-llama-cpp. */
  readonly peer?: string | undefined;
}

/** One model in one quantization, ours and maybe a peer's. */
export interface RuntimeResult {
  readonly shape: ShapeName;
  readonly quantization: Quantization;
  readonly parameters: number;
  readonly weightBytes: number;
  readonly ours: Measured;
  readonly peer?: Measured;
}

/** What a contender did in all rounds. */
export interface Measured extends RuntimeReady {
  /** The best of the rounds, for each task. */
  readonly rates: readonly number[];
  readonly peakBytes: number;
}

/** Measures every shape in every quantization; each is told when it is done. */
export async function* measureRuntimes(plan: RuntimePlan): AsyncGenerator<RuntimeResult> {
  for (const shape of plan.shapes) {
    for (const quantization of plan.quantizations) yield await measure(plan, shape, quantization);
  }
}

async function measure(plan: RuntimePlan, shape: ShapeName, asked: Quantization): Promise<RuntimeResult> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-runtime-'));
  const racers: Racer[] = [];
  try {
    const model = SHAPES[shape]();
    const quantized = join(folder, 'quantized');
    await mkdir(quantized);
    const { quantization, bytes } = await writeRandomQuantized(quantized, model, asked);
    const ours = fileURLToPath(new URL('./runtime-process.js', import.meta.url));
    racers.push(await Racer.start('heddle', [ours, quantized, String(plan.threads)]));
    if (plan.peer !== undefined) {
      const file = join(folder, 'peer');
      const script = join(plan.peer, 'contender.mjs');
      const args = [script, shape, String(quantization.bits), file, String(plan.threads)];
      racers.push(await Racer.start('the peer', args));
    }
    for (let round = 0; round < plan.rounds; round++) {
      for (const [i, task] of plan.tasks.entries()) for (const racer of racers) await racer.run(i, task);
    }
    const [own, peer] = racers.map((racer) => racer.measured());
    return {
      shape,
      quantization,
      parameters: countParameters(parametersOf(model)),
      weightBytes: bytes,
      ours: own!,
      ...(peer && { peer }),
    };
  } finally {
    for (const racer of racers) racer.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A process that has loaded a model and waits for tasks. */
class Racer {
  private readonly rates: number[] = [];
  private peakBytes = 0;

  private constructor(
    private readonly process: LineProcess,
    private readonly ready: RuntimeReady,
  ) {}

  static async start(name: string, args: readonly string[]): Promise<Racer> {
    const child = new LineProcess(name, process.execPath, args, withHugePages(process.env));
    try {
      return new Racer(child, await child.hear(readySchema));
    } catch (error) {
      child.stop();
      throw error;
    }
  }

  async run(index: number, task: RuntimeTask): Promise<void> {
    this.process.tell(JSON.stringify(task));
    const { tokensPerSecond, peakBytes } = await this.process.hear(answerSchema);
    this.rates[index] = Math.max(this.rates[index] ?? 0, tokensPerSecond);
    this.peakBytes = peakBytes;
  }

  measured(): Measured {
    return { ...this.ready, rates: this.rates, peakBytes: this.peakBytes };
  }

  stop(): void {
    this.process.stop();
  }
}
