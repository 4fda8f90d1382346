/** Training steps on `cuda`: in alternating rounds with PyTorch, of small models, and on several GPUs. */
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Device, DeviceOptions } from '../engine/index.js';
import { countParameters } from '../models/index.js';
import { type Contender, race, startContender } from './contender.js';
import type { RacedTask } from './gpu-tasks.js';
import { LineProcess } from './line-process.js';
import { peakMemory } from './machine.js';
import type { TrainingTask } from './plan.js';
import type { Plot, Point } from './plot.js';
import { quickWeights } from './quick-weights.js';
import type { SharedProcessInput } from './shared-process.js';
import { median } from './train-section.js';
import { compileStep, startRun } from './training.js';

const PEER = fileURLToPath(new URL('../../bench/peers/torch_gpu.py', import.meta.url));
const SHARED = fileURLToPath(new URL('./shared-process.js', import.meta.url));
const STEPS = 8;
const ROUNDS = 5;

/** The training speed of a model in one run; `seconds` are for one step. */
export interface StepRate {
  readonly name: string;
  readonly parameters: number;
  readonly tokens: number;
  /** Seconds to build and compile the step. */
  readonly preparation?: number;
  /** A step in the median round, and in the best one. */
  readonly seconds: number;
  readonly best: number;
  readonly tokensPerSecond: number;
  readonly loss: number;
  /** PyTorch's tokens a second, and our speed relative to it; or why it could not be measured. */
  readonly peer?: { readonly parameters: number; readonly tokensPerSecond: number; readonly ratio: number };
  readonly failure?: string;
}

/** Our training step as a contender, in this process. */
async function startOurs(task: TrainingTask, device: Device, steps: number): Promise<Contender> {
  const step = await compileStep(task, device);
  const run = startRun(task, step, { steps, memory: quickWeights(step.parameters), device });
  const round = async () => {
    const { seconds, loss } = await run.round();
    return { seconds, loss, peakBytes: peakMemory() };
  };
  await round();
  return {
    name: task.name,
    ready: { parameters: countParameters(step.parameters), preparation: step.preparation },
    round,
    stop: () => void run.dispose(),
  };
}

function startTorch(
  { name, layers, config, batch, sequence }: RacedTask,
  python: string,
): Promise<Contender> {
  const values = {
    layers,
    steps: STEPS,
    batch,
    sequence,
    hidden: config.hiddenSize,
    intermediate: config.intermediateSize,
    'state-size': config.ssmStateSize,
    vocab: config.vocabSize,
    window: config.attentionWindow,
    selected: config.attentionSelected,
  };
  const args = Object.entries(values).map(([key, value]) => `--${key}=${value}`);
  return startContender(`PyTorch ${name}`, python, [PEER, ...args]);
}

function rateOf(contender: Contender, rounds: Awaited<ReturnType<typeof race>>[number], tokens: number) {
  const seconds = rounds.map((round) => round.seconds);
  const { parameters, preparation } = contender.ready;
  return {
    parameters,
    tokens,
    ...(preparation && { preparation: preparation.build + preparation.compile }),
    seconds: median(seconds),
    best: Math.min(...seconds),
    tokensPerSecond: tokens / median(seconds),
    loss: rounds.at(-1)!.loss,
  };
}

/** Measures each task in alternating rounds with PyTorch, whose steps are all compiled at the same time; yields each result. */
export async function* raceTraining(
  tasks: readonly RacedTask[],
  device: Device,
  python: string | undefined,
): AsyncGenerator<StepRate> {
  const starts = tasks.map((task) => ({
    task,
    start: startOurs(task, device, STEPS),
    torch:
      python === undefined ? undefined : startTorch(task, python).catch((error: unknown) => error as Error),
  }));
  for (const { start } of starts) start.catch(() => undefined);
  for (const { task, start, torch } of starts) {
    const ours = await start;
    const peer = await torch;
    const contenders = peer && !(peer instanceof Error) ? [ours, peer] : [ours];
    try {
      const [own, others] = await race(contenders, ROUNDS);
      const tokens = task.batch * task.sequence;
      const rate = rateOf(ours, own!, tokens);
      const theirs = others && rateOf(contenders[1]!, others, tokens);
      yield {
        name: task.name,
        ...rate,
        ...(theirs && {
          peer: {
            parameters: theirs.parameters,
            tokensPerSecond: theirs.tokensPerSecond,
            ratio: rate.tokensPerSecond / theirs.tokensPerSecond,
          },
        }),
        ...(peer instanceof Error && { failure: peer.message }),
      };
    } finally {
      for (const contender of contenders) contender.stop();
    }
  }
}

/** Measures small models, without a peer, with many steps per round. */
export async function* measureSmall(
  tasks: readonly TrainingTask[],
  device: Device,
): AsyncGenerator<StepRate> {
  for (const task of tasks) {
    const ours = await startOurs(task, device, 200);
    const [rounds] = await race([ours], 3);
    yield { name: task.name, ...rateOf(ours, rounds!, task.batch * task.sequence) };
    ours.stop();
  }
}

const compiledSchema = z.object({ parameters: z.number().int().positive() });

const sharedRoundSchema = z.object({
  /** Seconds of a step in the median round. */
  seconds: z.number().positive(),
  /** Losses of the first steps in nats per token. */
  losses: z.array(z.number()).readonly(),
  /** Bytes of each GPU in use between two steps, and the peak. */
  memory: z.array(z.object({ inUse: z.number(), peak: z.number() })).readonly(),
});

/** The message of a process of `measureShared` that its step is compiled. */
export type Compiled = z.output<typeof compiledSchema>;
/** What it measured. */
export type SharedRound = z.output<typeof sharedRoundSchema>;

/** Result of one way of distributing the step over GPUs. */
export interface SharedRate {
  readonly name: string;
  readonly devices: number;
  /** What is sharded over several devices. */
  readonly shard?: 'data' | 'full';
  readonly parameters: number;
  readonly tokensPerSecond: number;
  /** Bytes in use on each GPU between two steps, and the peak so far. */
  readonly memory: readonly { readonly inUse: number; readonly peak: number }[];
  readonly losses: readonly number[];
}

/** The share of a GPU's memory that each process may take, as it needs it: one GPU has the whole batch, and programs are compiled beside it. */
const SHARED_MEMORY = 0.9;

/**
 * Measures the same steps on several GPUs, distributed in both ways, and on one GPU. Each form has a process of its own, since an allocator
 * that served one form has its memory in pieces for the next. All compile at the same time, and then each is measured alone.
 */
export async function* measureShared(
  devices: number,
  steps: number,
  options: DeviceOptions,
  task: TrainingTask,
): AsyncGenerator<SharedRate> {
  const forms: readonly [string, DeviceOptions][] = [
    [`${devices} GPUs, full`, { devices, shard: 'full' }],
    [`${devices} GPUs, data`, { devices, shard: 'data' }],
    ['1 GPU', {}],
  ];
  const started = forms.map(([name, form]) => {
    const input: SharedProcessInput = {
      ...{ task, steps },
      options: { memoryFraction: SHARED_MEMORY, ...options, ...form },
    };
    return { name, form, child: new LineProcess(name, process.execPath, [SHARED, JSON.stringify(input)]) };
  });
  try {
    const compiled: Compiled[] = [];
    for (const { child } of started) compiled.push(await child.hear(compiledSchema));
    for (const [i, { name, form, child }] of started.entries()) {
      child.tell('measure');
      // It says one line. The next one is measured when it has ended, and its memory is free.
      for await (const { seconds, losses, memory } of child.hearAll(sharedRoundSchema))
        yield {
          name,
          devices: form.devices ?? 1,
          ...(form.shard && { shard: form.shard }),
          parameters: compiled[i]!.parameters,
          tokensPerSecond: (task.batch * task.sequence) / seconds,
          memory,
          losses,
        };
    }
  } finally {
    for (const { child } of started) child.stop();
  }
}

/** Throughput and peak memory by the number of GPUs. A third line shows ideal scaling: n times the throughput of one GPU. */
export function plotsOfShared(rates: readonly SharedRate[]): Plot[] {
  const one = rates.find(({ devices }) => devices === 1)!;
  const others = rates.filter(({ devices }) => devices > 1);
  const x = { title: 'GPUs' };
  const pointsOf = (value: (rate: SharedRate) => number): Point[] =>
    others.flatMap((rate) => [
      { series: rate.shard!, x: 1, y: value(one) },
      { series: rate.shard!, x: rate.devices, y: value(rate) },
    ]);
  const most = Math.max(...others.map((rate) => rate.devices));
  const ideal = [1, most].map((n) => ({ series: 'n times one GPU', x: n, y: n * one.tokensPerSecond }));
  return [
    {
      ...{ name: 'throughput', title: 'Training throughput', x, y: { title: 'tokens/s' }, color: 'sharding' },
      points: [...ideal, ...pointsOf((rate) => rate.tokensPerSecond)],
    },
    {
      ...{ name: 'memory', title: 'Peak memory of a GPU', x, y: { title: 'bytes' }, color: 'sharding' },
      points: pointsOf((rate) => Math.max(...rate.memory.map(({ peak }) => peak))),
    },
  ];
}

/** The largest difference of two runs' losses. */
export function furthest(a: readonly number[], b: readonly number[]): number {
  return Math.max(...a.map((loss, i) => Math.abs(loss - b[i]!)));
}
