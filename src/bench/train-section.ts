/** The training section: time, preparation and memory of our training step, compared with PyTorch's step. */
import { fileURLToPath } from 'node:url';
import { type DeviceName, openDevice } from '../engine/index.js';
import { hybridModel, parsePattern } from '../models/index.js';
import { ADAMW_DEFAULTS, nextTokens } from '../train/index.js';
import { type MemoryNeed, memoryNeed } from '../train/memory-need.js';
import { type Contender, type Round, race, startContender } from './contender.js';
import { ContenderError } from './line-process.js';
import type { Plan, TrainingTask } from './plan.js';
import type { TrainProcessInput } from './train-process.js';
import { compileStep, type Preparation, STEPS_PER_ROUND } from './training.js';
import { countWork, type ParameterCount, trainingFlops } from './work.js';

/** The time and memory of a training step. */
export interface StepTime {
  name: string;
  /** Seconds of a step in the fastest round and in the median round. */
  bestSeconds: number;
  medianSeconds: number;
  tokensPerSecond: number;
  /** Floating-point operations per second. */
  flops: number;
  /** Peak memory of the whole process. */
  peakBytes: number;
}

/** The time and memory of a peer's step. */
export interface PeerTime extends StepTime {
  /** The time of its best step relative to ours. */
  ratio: number;
}

/** The preparation time of a large step. */
export interface PreparationResult extends Preparation {
  name: string;
  parameters: number;
  batch: number;
  sequence: number;
}

/** The steps of ours and of the peer, if there is one. */
export interface TrainResult {
  name: string;
  parameters: ParameterCount;
  batch: number;
  sequence: number;
  ours: StepTime;
  need: MemoryNeed;
  /** The preparation of this step and of a larger one. */
  preparations: PreparationResult[];
  peers: PeerTime[];
  /** Why a peer could not be measured. */
  failures: string[];
}

/** The device and the peer. */
export interface TrainOptions {
  device: DeviceName;
  threads: number;
  /** A Python with torch. */
  peer?: string | undefined;
}

/** Trains in alternating rounds with the peer, and measures the preparation of a larger step. */
export async function measureTraining(
  { training: task, rounds, preparation: larger }: Plan,
  options: TrainOptions,
): Promise<TrainResult> {
  const { name, config, batch, sequence } = task;
  const parameters = countWork(hybridModel(config));
  const flops = trainingFlops(parameters, batch * sequence);
  const contenders = [await startOurs(task, options)];
  let failures: string[];
  let results: Round[][];
  try {
    failures = await addPeers(contenders, task, options);
    results = await race(contenders, rounds);
  } finally {
    for (const contender of contenders) contender.stop();
  }
  const times = contenders.map((contender, i) => {
    const trained = contender.ready.parameters;
    if (trained !== parameters.total) {
      throw new ContenderError(`${contender.name} trains ${trained} parameters, not ${parameters.total}`);
    }
    return stepTime(contender.name, results[i]!, batch * sequence, flops);
  });
  const [ours, ...peers] = times as [StepTime, ...StepTime[]];
  return {
    name,
    parameters,
    batch,
    sequence,
    ours,
    need: memoryNeed(hybridModel(task.config), nextTokens(sequence), batch, ADAMW_DEFAULTS),
    preparations: [
      preparationResult(task, contenders[0]!.ready.preparation!),
      await prepareOnly(larger, options),
    ],
    peers: peers.map((peer) => ({ ...peer, ratio: peer.bestSeconds / ours.bestSeconds })),
    failures,
  };
}

/** Adds PyTorch if requested. Returns the reasons why some cannot take part. */
async function addPeers(
  contenders: Contender[],
  task: TrainingTask,
  options: TrainOptions,
): Promise<string[]> {
  const failures: string[] = [];
  for (const mode of options.peer === undefined ? [] : ['eager', 'compile']) {
    try {
      contenders.push(await startTorch(task, options, mode));
    } catch (error) {
      if (!(error instanceof ContenderError)) throw error;
      failures.push(error.message);
    }
  }
  return failures;
}

function startOurs(task: TrainingTask, { device, threads }: TrainOptions): Promise<Contender> {
  const script = fileURLToPath(new URL('./train-process.js', import.meta.url));
  const input: TrainProcessInput = { task, device, threads };
  return startContender('heddle', process.execPath, [script, JSON.stringify(input)]);
}

function startTorch(task: TrainingTask, options: TrainOptions, mode: string): Promise<Contender> {
  const { config, batch, sequence } = task;
  const script = fileURLToPath(new URL('../../bench/peers/torch_train.py', import.meta.url));
  const values = {
    mode,
    device: options.device === 'webgpu' ? 'cuda' : 'cpu',
    threads: options.threads,
    steps: STEPS_PER_ROUND,
    batch,
    sequence,
    layers: parsePattern(config.pattern).length / 2,
    hidden: config.hiddenSize,
    intermediate: config.intermediateSize,
    heads: config.mambaNumHeads,
    'state-size': config.ssmStateSize,
    kernel: config.convKernel,
    vocab: config.vocabSize,
  };
  const args = Object.entries(values).map(([name, value]) => `--${name}=${value}`);
  return startContender(`PyTorch ${mode}`, options.peer!, [script, ...args]);
}

function stepTime(name: string, rounds: readonly Round[], tokens: number, flops: number): StepTime {
  const seconds = rounds.map((round) => round.seconds);
  const best = Math.min(...seconds);
  return {
    name,
    bestSeconds: best,
    medianSeconds: median(seconds),
    tokensPerSecond: tokens / best,
    flops: flops / best,
    peakBytes: rounds.at(-1)!.peakBytes,
  };
}

/** The median; of two middle values, the lower one. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[(values.length - 1) >> 1]!;
}

/** Builds and compiles a step without running it. */
async function prepareOnly(
  task: TrainingTask,
  { device, threads }: TrainOptions,
): Promise<PreparationResult> {
  const { executable, preparation } = await compileStep(task, await openDevice(device, { threads }));
  await executable.dispose();
  return preparationResult(task, preparation);
}

function preparationResult(task: TrainingTask, preparation: Preparation): PreparationResult {
  const { name, config, batch, sequence } = task;
  return { name, parameters: countWork(hybridModel(config)).total, batch, sequence, ...preparation };
}
