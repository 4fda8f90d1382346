/**
 * The runtime benchmark: prefill and decoding of models with random weights, ours and peers' in alternation, each in its own process that
 * runs the same tasks. Other load of the machine affects all alike: ratios are formed within a round, and the median over rounds is reported.
 * Between the tasks memory is read without any computation, which gives the bandwidth limit of the weights. All processes use huge pages,
 * as the `heddle` command does.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withHugePages } from '../engine/huge-pages.js';
import type { Device } from '../engine/index.js';
import { countParameters, parametersOf } from '../models/index.js';
import { stateBytes } from '../nn/index.js';
import { LineProcess } from './line-process.js';
import { Bandwidth } from './peak.js';
import {
  answerSchema,
  type RuntimeAnswer,
  type RuntimeReady,
  type RuntimeTask,
  readySchema,
  taskName,
} from './runtime-tasks.js';
import { writeServedModel } from './serve-model.js';
import { SHAPES, type ShapeName } from './shapes.js';

/** The models, tasks and rounds of the benchmark. */
export interface RuntimePlan {
  readonly shapes: readonly ShapeName[];
  /** Bits of the weights: 4 or 8 in blocks, or 16 (bfloat16). */
  readonly bits: readonly (4 | 8 | 16)[];
  readonly tasks: readonly RuntimeTask[];
  /** The most rounds; there are at least two. No round is started that would exceed `minutes` for a model. */
  readonly rounds: number;
  readonly minutes: number;
  readonly threads: number;
  /** The folders of peers: see bench/peers. */
  readonly peers: readonly string[];
  /** The Node.js that runs the contenders. */
  readonly node: string;
}

/** The results of one model for each contender, ours first. */
export interface RuntimeResult {
  readonly shape: ShapeName;
  readonly bits: number;
  readonly parameters: number;
  readonly weightBytes: number;
  readonly minutes: number;
  readonly contenders: readonly Measured[];
  /** By round: the memory bandwidth without computation, in bytes/s. */
  readonly bandwidth: readonly number[];
  /** By task: bytes of weights and state that a token of one sequence reads. */
  readonly bytesPerToken: readonly number[];
}

/** The results of a contender by task and round. */
export interface Measured extends RuntimeReady {
  readonly name: string;
  readonly answers: readonly (readonly RuntimeAnswer[])[];
}

/** Measures every shape with every kind of weights; yields each result. `device` measures the memory bandwidth. */
export async function* measureRuntimes(
  plan: RuntimePlan,
  device: Device,
  progress: (text: string) => void,
): AsyncGenerator<RuntimeResult> {
  const reading = await Bandwidth.prepare(device);
  try {
    for (const shape of plan.shapes) {
      for (const bits of plan.bits) yield await measure(plan, shape, bits, reading, progress);
    }
  } finally {
    await reading.dispose();
  }
}

async function measure(
  { tasks, rounds, minutes, threads, peers, node }: RuntimePlan,
  shape: ShapeName,
  bits: 4 | 8 | 16,
  reading: Bandwidth,
  progress: (text: string) => void,
): Promise<RuntimeResult> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-runtime-'));
  const racers: Racer[] = [];
  const started = performance.now();
  const spent = (): number => (performance.now() - started) / 60_000;
  const tell = (text: string): void => progress(`${shape}, ${bits} bits, ${spent().toFixed(1)} min: ${text}`);
  try {
    tell('writing the model');
    const model = SHAPES[shape]();
    const served = await writeServedModel(folder, shape, bits);
    const scripts = [
      ['heddle', fileURLToPath(new URL('./runtime-process.js', import.meta.url))],
      ...peers.map((peer) => [basename(resolve(peer)), join(peer, 'contender.mjs')]),
    ] as const;
    for (const [name, script] of scripts) {
      tell(`${name} loads it`);
      const args = [script!, shape, String(bits), served.folder, String(threads)];
      const racer = await Racer.start(name!, node, args);
      if (typeof racer === 'string') tell(`${name} does not take part: ${racer}`);
      else racers.push(racer);
    }
    const bandwidth: number[] = [];
    let longest = 0;
    for (let round = 0; round < rounds; round++) {
      if (round >= 2 && spent() + longest > minutes) break;
      const before = spent();
      bandwidth.push(await reading.measure());
      for (const [i, task] of tasks.entries()) {
        tell(`round ${round + 1} of ${rounds}, ${taskName(task)}`);
        // The first contender runs after another task, the last one after the same task, so the order alternates.
        const order = round % 2 === 0 ? racers : [...racers].reverse();
        for (const racer of order) await racer.run(i, task);
      }
      // The first round includes compilation and warm-up.
      longest = round === 1 ? spent() - before : Math.max(longest, spent() - before);
    }
    return {
      shape,
      bits,
      parameters: countParameters(parametersOf(model)),
      weightBytes: served.bytes,
      minutes: spent(),
      contenders: racers,
      bandwidth,
      bytesPerToken: tasks.map(({ tokens }) => served.bytes + stateBytes(model.state, tokens)),
    };
  } finally {
    for (const racer of racers) racer.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A contender process that has loaded a model and waits for tasks. */
class Racer implements Measured {
  readonly answers: RuntimeAnswer[][] = [];

  private constructor(
    readonly name: string,
    private readonly process: LineProcess,
    private readonly ready: RuntimeReady,
  ) {}

  get seconds(): number {
    return this.ready.seconds;
  }

  get heldBytes(): number {
    return this.ready.heldBytes;
  }

  /** Starts the process; returns the reason as a string if it does not take part. */
  static async start(name: string, command: string, args: readonly string[]): Promise<Racer | string> {
    const child = new LineProcess(name, command, args, withHugePages(process.env));
    try {
      const ready = await child.hear(readySchema);
      if (!('declines' in ready)) return new Racer(name, child, ready);
      child.stop();
      return ready.declines;
    } catch (error) {
      child.stop();
      throw error;
    }
  }

  async run(index: number, task: RuntimeTask): Promise<void> {
    this.process.tell(JSON.stringify(task));
    const answer = await this.process.hear(answerSchema);
    this.answers[index] ??= [];
    if (!('unknown' in answer)) this.answers[index]!.push(answer);
  }

  stop(): void {
    this.process.stop();
  }
}
