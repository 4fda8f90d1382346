/**
 * A training run: from a corpus to a folder with the model. The folder `checkpoint` in it is the model as Hugging Face
 * lays it out, with what it takes to go on (`optimizer.safetensors`, `training.json`); `metrics.jsonl` beside it is the
 * log. A run that is interrupted and resumed ends with the same bits as one that was not, on the CPU.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  openSafetensors,
  recoverFolder,
  writeFileAtomic,
  writeFolderAtomic,
  writeSafetensors,
} from '../checkpoint/index.js';
import {
  type Device,
  type Executable,
  float32,
  type HostTensor,
  hostZeros,
  type Memory,
} from '../engine/index.js';
import { CheckpointError, DataError, StorageError, TrainingError } from '../errors.js';
import {
  countParameters,
  formatConfig,
  type HybridModel,
  hybridModel,
  type ModelConfig,
  parametersOf,
  readConfig,
  readWeights,
  writeModel,
} from '../models/index.js';
import { type ParameterSpec, Random } from '../nn/index.js';
import type { Tokenizer } from '../text/index.js';
import { Batches } from './batches.js';
import { evaluate, heldOut } from './evaluate.js';
import { STEP_SCALARS, stepScalars } from './optimizer.js';
import { evaluationProgram, firstMoment, secondMoment, trainingProgram } from './program.js';
import { learningRateAt } from './schedule.js';
import { checkSettings, type TrainingSettings } from './settings.js';

/** What happened; the lines of `metrics.jsonl`. */
export type TrainingEvent =
  | {
      event: 'step';
      step: number;
      /** Nats a token. */
      loss: number;
      gradientNorm: number;
      learningRate: number;
      tokensPerSecond: number;
    }
  | { event: 'evaluation'; step: number; loss: number; perplexity: number; tokens: number }
  | { event: 'saved'; step: number };

export interface TrainingInput {
  config: ModelConfig;
  tokenizer: Tokenizer;
  /** Token ids. */
  training: Int32Array;
  validation: Int32Array;
  settings: TrainingSettings;
  device: Device;
  /** The run's folder. */
  folder: string;
  /** Go on from the folder's checkpoint. */
  resume?: boolean;
  onEvent?: (event: TrainingEvent) => void;
  /** Once aborted, the run saves and returns. */
  signal?: AbortSignal;
}

export interface TrainingResult {
  /** Steps done: fewer than asked for after an interruption. */
  step: number;
  completed: boolean;
  /** Of the last evaluation. */
  perplexity: number | undefined;
}

/** The model's folder inside a run's. */
export const CHECKPOINT = 'checkpoint';
const METRICS = 'metrics.jsonl';
const OPTIMIZER = 'optimizer.safetensors';
const PROGRESS = 'training.json';
/** Evaluation reads at most this many batches: it must not outweigh training. */
const EVALUATION_BATCHES = 64;
/** Where a device copies its memory back after each run, one run does several steps, as long as this is not much work. */
const MOST_STEPS_PER_RUN = 8;
const FLOPS_PER_RUN = 1e11;

const progressSchema = z.strictObject({ step: z.number().int().nonnegative(), fingerprint: z.string() });

/** Trains, and leaves a checkpoint behind also when interrupted. */
export async function train(input: TrainingInput): Promise<TrainingResult> {
  const { settings } = input;
  checkSettings(settings);
  if (input.training.length === 0) throw new DataError('the corpus is empty: there is nothing to learn from');
  const highest = Math.max(maximumOf(input.training), maximumOf(input.validation));
  if (highest >= input.config.vocabSize) {
    throw new DataError(
      `the tokenizer gives the id ${highest}, but the model has ${input.config.vocabSize} tokens: use the tokenizer that it was made for`,
    );
  }
  const batches = new Batches(input.training, settings.sequence, settings.seed);
  const held = heldOut(input.validation, settings.sequence);
  const run = await Run.open(input, batches, held);
  try {
    return await run.loop();
  } finally {
    await run.close();
  }
}

function maximumOf(tokens: Int32Array): number {
  return tokens.reduce((a, b) => Math.max(a, b), 0);
}

/** What a resumed run must agree on with the one that it continues. */
function fingerprintOf({ config, training, validation, settings }: TrainingInput): string {
  const { evaluateEvery: _, saveEvery: __, optimizer, ...decisive } = settings;
  const sorted = [decisive, optimizer].map((part) =>
    Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  const hash = createHash('sha256').update(formatConfig(config)).update(JSON.stringify(sorted));
  for (const tokens of [training, validation]) {
    hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
  }
  return hash.digest('hex');
}

/** New weights, from the seed. */
export function initialWeights(parameters: readonly ParameterSpec[], seed: number): Map<string, HostTensor> {
  const random = new Random(seed);
  return new Map(
    parameters.map(({ name, shape, initialize }) => [name, float32(initialize(random, shape), shape)]),
  );
}

/**
 * Steps that one run of the training program does: between runs a signal gets through and progress is shown, so that a
 * run should take a second or so. 6 FLOPs a parameter and token (Kaplan et al., 2020).
 */
export function stepsPerRunOn(device: Device, model: HybridModel, tokensPerStep: number): number {
  if (!device.copiesCarried) return 1;
  const flops = 6 * countParameters(parametersOf(model)) * tokensPerStep;
  return Math.min(MOST_STEPS_PER_RUN, Math.max(1, Math.floor(FLOPS_PER_RUN / flops)));
}

/** Throws `TrainingError` where a run's folder is taken: a new run never replaces what another left. */
export function expectNoRun(folder: string): void {
  for (const name of [CHECKPOINT, METRICS]) {
    if (!existsSync(join(folder, name))) continue;
    throw new TrainingError(
      `${join(folder, name)} is there already, from another run: go on with that one (--resume), or train into another folder`,
    );
  }
}

/** What a run starts from: new weights, and moments of zero. */
export function initialMemory(parameters: readonly ParameterSpec[], seed: number): Map<string, HostTensor> {
  const values = initialWeights(parameters, seed);
  for (const { name, shape } of parameters) {
    values.set(firstMoment(name), hostZeros('float32', shape));
    values.set(secondMoment(name), hostZeros('float32', shape));
  }
  return values;
}

class Run {
  private readonly checkpoint: string;
  private readonly metrics: string;
  private readonly fingerprint: string;
  private perplexity: number | undefined;
  /** The step of the checkpoint in the folder, if there is one of this run. */
  private savedStep: number | undefined;

  private constructor(
    private readonly input: TrainingInput,
    private readonly batches: Batches,
    private readonly held: readonly BigInt64Array[],
    private readonly parameters: readonly ParameterSpec[],
    private readonly stepsPerRun: number,
    private readonly training: Executable,
    private readonly evaluation: Executable,
    private readonly memory: Memory,
    private step: number,
  ) {
    this.checkpoint = join(input.folder, CHECKPOINT);
    this.metrics = join(input.folder, METRICS);
    this.fingerprint = fingerprintOf(input);
    this.savedStep = input.resume ? step : undefined;
  }

  static async open(input: TrainingInput, batches: Batches, held: readonly BigInt64Array[]): Promise<Run> {
    const { settings, device, config, folder } = input;
    const model = hybridModel(config);
    const { batch, sequence, accumulate } = settings;
    const stepsPerRun = stepsPerRunOn(device, model, batch * sequence * accumulate);
    const shape = { batch, sequence, accumulate, stepsPerRun };
    const { program, parameters } = trainingProgram(model, settings.optimizer, shape);
    await mkdir(folder, { recursive: true }).catch((error: Error) => {
      throw new StorageError(`${folder} cannot be made: ${error.message}`, { cause: error });
    });
    await recoverFolder(join(folder, CHECKPOINT));
    if (!input.resume) expectNoRun(folder);
    const start = input.resume ? await resumed(input, model, parameters) : fresh(input, parameters);
    const training = await device.compile(program);
    const evaluation = await device.compile(evaluationProgram(model, settings.sequence));
    const memory = training.allocate(start.values);
    await trimMetrics(join(folder, METRICS), start.step);
    return new Run(input, batches, held, parameters, stepsPerRun, training, evaluation, memory, start.step);
  }

  async close(): Promise<void> {
    this.memory.dispose();
    await this.training.dispose();
    await this.evaluation.dispose();
  }

  async loop(): Promise<TrainingResult> {
    const { settings, signal } = this.input;
    // A run that was complete is told how good it is once more.
    if (this.step === 0 || this.step >= settings.steps) await this.evaluate();
    while (this.step < settings.steps && !signal?.aborted) {
      const before = this.step;
      await this.advance();
      const passed = (every: number): boolean => Math.floor(this.step / every) > Math.floor(before / every);
      const done = this.step >= settings.steps;
      if (passed(settings.evaluateEvery) || done) await this.evaluate();
      if (passed(settings.saveEvery) || done) await this.save();
      // Lets a signal or a timer through: the engine computes on this thread.
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (this.savedStep !== this.step) await this.save();
    return { step: this.step, completed: this.step >= settings.steps, perplexity: this.perplexity };
  }

  /**
   * One run of the program. Steps beyond the last one of the schedule leave the parameters: their step size is 0. The
   * moments move on, but nobody steps by them again.
   */
  private async advance(): Promise<void> {
    const { settings } = this.input;
    const { batch, sequence, accumulate } = settings;
    const count = this.stepsPerRun;
    const scalars = new Float32Array(count * STEP_SCALARS);
    const rates: number[] = [];
    for (let i = 0; i < count; i++) {
      const step = this.step + i + 1;
      const rate = step <= settings.steps ? learningRateAt(settings, step) : 0;
      rates.push(rate);
      scalars.set(stepScalars(settings.optimizer, step, rate), i * STEP_SCALARS);
    }
    const perStep = batch * accumulate;
    const tokens: HostTensor = {
      dtype: 'int64',
      dims: [count, accumulate, batch, sequence + 1],
      data: this.batches.take(this.step * perStep, count * perStep),
    };
    const started = performance.now();
    const outputs = await this.training.run(
      { tokens, scalars: float32(scalars, [count, STEP_SCALARS]) },
      this.memory,
    );
    const seconds = (performance.now() - started) / 1000;
    const real = Math.min(count, settings.steps - this.step);
    for (let i = 0; i < real; i++) {
      const loss = outputs.loss!.data[i] as number;
      const gradientNorm = outputs.norm!.data[i] as number;
      if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
        throw this.diverged(`the loss became ${loss} (gradient norm ${gradientNorm})`, this.step + i + 1);
      }
      await this.report({
        event: 'step',
        step: this.step + i + 1,
        loss,
        gradientNorm,
        learningRate: rates[i]!,
        tokensPerSecond: (count * perStep * sequence) / seconds,
      });
    }
    this.step += real;
  }

  /** Loss and perplexity on held-out text. */
  private async evaluate(): Promise<void> {
    const { batch } = this.input.settings;
    const sequences = this.held.slice(0, EVALUATION_BATCHES * batch);
    const result = await evaluate(this.evaluation, sequences, batch, this.memory);
    if (!Number.isFinite(result.loss))
      throw this.diverged(`the validation loss became ${result.loss}`, this.step);
    this.perplexity = result.perplexity;
    await this.report({ event: 'evaluation', step: this.step, ...result });
  }

  private async save(): Promise<void> {
    const values = await this.memory.read();
    const weights = new Map(this.parameters.map(({ name }) => [name, values.get(name)!]));
    for (const [name, { data }] of weights) {
      if (!(data as Float32Array).every(Number.isFinite))
        throw this.diverged(`${name} has values that are no numbers`, this.step);
    }
    const moments = this.parameters.flatMap(({ name, shape }) =>
      [firstMoment(name), secondMoment(name)].map((key) => ({
        name: key,
        dtype: 'F32' as const,
        shape,
        data: values.get(key)!.data as Float32Array,
      })),
    );
    await writeFolderAtomic(this.checkpoint, async (temporary) => {
      await writeModel(temporary, this.input.config, weights);
      await this.input.tokenizer.save(temporary);
      await writeSafetensors(join(temporary, OPTIMIZER), moments);
      const progress = { step: this.step, fingerprint: this.fingerprint };
      await writeFileAtomic(join(temporary, PROGRESS), `${JSON.stringify(progress, null, 2)}\n`);
    });
    this.savedStep = this.step;
    await this.report({ event: 'saved', step: this.step });
  }

  private diverged(what: string, step: number): TrainingError {
    const left =
      this.savedStep === undefined
        ? 'nothing was saved'
        : `the checkpoint of step ${this.savedStep} stays as it was`;
    return new TrainingError(`${what} at step ${step}; ${left}. Train again with a lower learning rate.`);
  }

  private async report(event: TrainingEvent): Promise<void> {
    this.input.onEvent?.(event);
    const line = JSON.stringify({ time: new Date().toISOString(), ...event });
    await appendFile(this.metrics, `${line}\n`).catch((error: Error) => {
      throw new StorageError(`${this.metrics} cannot be written: ${error.message}`, { cause: error });
    });
  }
}

/** Takes off what a run that was killed logged beyond its last checkpoint; all of it, for a new run. */
async function trimMetrics(path: string, step: number): Promise<void> {
  const text = step === 0 ? '' : await readFile(path, 'utf8').catch(() => '');
  const kept = text.split('\n').filter((line) => {
    const entry = parseJson(line) as { step?: number } | undefined;
    return entry?.step !== undefined && entry.step <= step;
  });
  await writeFileAtomic(path, kept.map((line) => `${line}\n`).join(''));
}

interface Start {
  step: number;
  values: Map<string, HostTensor>;
}

function fresh({ settings }: TrainingInput, parameters: readonly ParameterSpec[]): Start {
  return { step: 0, values: initialMemory(parameters, settings.seed) };
}

async function resumed(
  input: TrainingInput,
  model: HybridModel,
  parameters: readonly ParameterSpec[],
): Promise<Start> {
  const folder = join(input.folder, CHECKPOINT);
  const path = join(folder, PROGRESS);
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new CheckpointError(`there is nothing to resume: ${path} cannot be read. Train without --resume.`, {
      cause: error,
    });
  });
  const progress = progressSchema.safeParse(parseJson(text));
  if (!progress.success) throw new CheckpointError(`${path} is damaged: train anew without --resume`);
  const config = await readConfig(folder);
  if (
    formatConfig(config) !== formatConfig(input.config) ||
    progress.data.fingerprint !== fingerprintOf(input)
  ) {
    throw new TrainingError(
      `${folder} was trained with another model, corpus or settings: resume with the same ones, or train into another folder`,
    );
  }
  const values = await readWeights(folder, model);
  const file = await openSafetensors(join(folder, OPTIMIZER));
  try {
    for (const { name, shape } of parameters) {
      for (const key of [firstMoment(name), secondMoment(name)]) {
        values.set(key, float32(await file.readFloat32(key), shape));
      }
    }
  } finally {
    await file.close();
  }
  return { step: progress.data.step, values };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
