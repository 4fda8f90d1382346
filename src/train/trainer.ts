/**
 * A training run: from a corpus to a folder with the model. The folder `checkpoint` in it is the model as Hugging Face
 * lays it out, with what it takes to go on; or the adapter that was trained beside another model. `metrics.jsonl` beside
 * it is the log. A run that is interrupted and resumed ends with the same bits as one that was not, on the CPU.
 */
import { existsSync } from 'node:fs';
import { appendFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inWords, makeFolder, parseJson, recoverFolder, writeFileAtomic } from '../checkpoint/index.js';
import {
  type Device,
  type Executable,
  float32,
  type HostTensor,
  hostZeros,
  type State,
  type Weight,
} from '../engine/index.js';
import { ConfigError, StorageError, TrainingError } from '../errors.js';
import {
  CHECKPOINT,
  countParameters,
  locateWeights,
  METRICS,
  type Model,
  parametersOf,
  readWeights,
  withLora,
} from '../models/index.js';
import { type ParameterSpec, Random } from '../nn/index.js';
import { identityOf, type RunIdentity, readCheckpoint, writeCheckpoint } from './checkpoint.js';
import type { TrainingData } from './data.js';
import { evaluate, feedsOf } from './evaluate.js';
import type { TrainingEvent, TrainingInput, TrainingResult } from './input.js';
import { STEP_SCALARS, stepScalars } from './optimizer.js';
import { evaluationProgram, firstMoment, secondMoment, trainingProgram } from './program.js';
import { learningRateAt } from './schedule.js';
import { checkSettings } from './settings.js';

export type { Sample, TrainingEvent, TrainingInput, TrainingResult } from './input.js';

/** Evaluation reads at most this many batches: it must not outweigh training. */
const EVALUATION_BATCHES = 64;
/** Where a device prefers long runs, one does several steps, as long as this is not much work. */
const MOST_STEPS_PER_RUN = 8;
const FLOPS_PER_RUN = 1e11;

/** Trains, and leaves a checkpoint behind also when interrupted. */
export async function train(input: TrainingInput): Promise<TrainingResult> {
  const { settings } = input;
  checkSettings(settings);
  if (input.lora && input.from === undefined) {
    throw new ConfigError(
      'adapters are trained beside the weights of a model: name the folder that it starts from',
    );
  }
  const run = await Run.open(input, input.data(input.model, settings));
  try {
    return await run.loop();
  } finally {
    await run.close();
  }
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
export function stepsPerRunOn(device: Device, model: Model, tokensPerStep: number): number {
  if (!device.prefersLongRuns) return 1;
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

/** What a new run starts from: new weights, and moments of zero. */
export function initialMemory(parameters: readonly ParameterSpec[], seed: number): Map<string, HostTensor> {
  return withMoments(initialWeights(parameters, seed), parameters);
}

function withMoments(
  values: Map<string, HostTensor>,
  parameters: readonly ParameterSpec[],
): Map<string, HostTensor> {
  for (const { name, shape } of parameters) {
    values.set(firstMoment(name), hostZeros('float32', shape));
    values.set(secondMoment(name), hostZeros('float32', shape));
  }
  return values;
}

/** What a run works with; made before its first step. */
interface Equipment {
  /** With its adapters, where they are what is trained. */
  model: Model;
  parameters: readonly ParameterSpec[];
  /** The weights that are not trained. */
  frozen: ReadonlyMap<string, Weight>;
  /** Those of them that are saved with the model: none where adapters are trained beside it. */
  untrained: ReadonlyMap<string, HostTensor>;
  identity: RunIdentity;
  data: TrainingData;
  stepsPerRun: number;
  training: Executable;
  evaluation: Executable;
  /** Parameters and moments. */
  state: State;
}

class Run {
  private readonly metrics: string;
  private perplexity: number | undefined;
  /** The step of the checkpoint in the folder, if there is one of this run. */
  private savedStep: number | undefined;

  private constructor(
    private readonly input: TrainingInput,
    private readonly equipment: Equipment,
    private step: number,
  ) {
    this.metrics = join(input.folder, METRICS);
    this.savedStep = input.resume ? step : undefined;
  }

  static async open(input: TrainingInput, data: TrainingData): Promise<Run> {
    const { settings, device, from, lora, folder } = input;
    const model = lora ? withLora(input.model, lora) : input.model;
    const { batch, sequence, accumulate } = settings;
    const stepsPerRun = stepsPerRunOn(device, model, batch * sequence * accumulate);
    const { objective } = data;
    const shape = { batch, accumulate, stepsPerRun };
    const { program, parameters } = trainingProgram(
      model,
      objective,
      settings.optimizer,
      shape,
      settings.rates,
    );
    // Nothing is written before it is sure that there is something to start from.
    const initial = input.resume ? undefined : await fresh(input, parameters);
    // What adapters are trained beside is read from its files as it is needed, and has no gradients and no moments.
    const adapted = lora && from !== undefined ? await locateWeights(from, input.model) : undefined;
    await makeFolder(folder).catch((error: unknown) => {
      throw inWords(folder, error);
    });
    await recoverFolder(join(folder, CHECKPOINT));
    if (!input.resume) expectNoRun(folder);
    const identity = await identityOf(input, data);
    const start = initial ? { step: 0, values: initial } : await readCheckpoint(input, parameters, identity);
    const untrained = lora ? new Map<string, HostTensor>() : takeUntrained(start.values, model, parameters);
    const frozen = adapted ?? untrained;
    const training = await device.compile({ ...program, weights: frozen });
    const evaluation = await device.compile({
      ...evaluationProgram(model, objective, parameters),
      weights: frozen,
    });
    const state = training.newState(start.values);
    await trimMetrics(join(folder, METRICS), start.step);
    const programs = { stepsPerRun, training, evaluation, state };
    return new Run(input, { model, parameters, frozen, untrained, identity, data, ...programs }, start.step);
  }

  async close(): Promise<void> {
    const { state, training, evaluation } = this.equipment;
    state.dispose();
    await training.dispose();
    await evaluation.dispose();
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
   * moments move on by those batches' gradients; only a run that is resumed for longer steps by them again.
   */
  private async advance(): Promise<void> {
    const { settings } = this.input;
    const { stepsPerRun: count, data, training, state } = this.equipment;
    const { batch, sequence, accumulate } = settings;
    const scalars = new Float32Array(count * STEP_SCALARS);
    const rates: number[] = [];
    for (let i = 0; i < count; i++) {
      const step = this.step + i + 1;
      const rate = step <= settings.steps ? learningRateAt(settings, step) : 0;
      rates.push(rate);
      scalars.set(stepScalars(settings.optimizer, step, rate), i * STEP_SCALARS);
    }
    const perStep = batch * accumulate;
    const examples = data.training.take(this.step * perStep, count * perStep);
    const started = performance.now();
    const feeds = {
      ...feedsOf(data.objective, examples, [count, accumulate, batch]),
      scalars: float32(scalars, [count, STEP_SCALARS]),
    };
    const outputs = await training.run(feeds, [state]);
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

  /** Loss and perplexity on held-out text, and what the model writes now. */
  private async evaluate(): Promise<void> {
    const { batch } = this.input.settings;
    const { evaluation, data, state } = this.equipment;
    const limit = EVALUATION_BATCHES * batch;
    const result = await evaluate(evaluation, data.objective, data.validation, batch, { state, limit });
    if (!Number.isFinite(result.loss))
      throw this.diverged(`the validation loss became ${result.loss}`, this.step);
    this.perplexity = result.perplexity;
    await this.report({ event: 'evaluation', step: this.step, ...result });
    const { sample } = this.input;
    if (!sample) return;
    const { model, parameters, frozen } = this.equipment;
    const trained = await state.read(parameters.map(({ name }) => name));
    const written = await sample(model, new Map([...frozen, ...trained]));
    await this.report({ event: 'sample', step: this.step, ...written });
  }

  private async save(): Promise<void> {
    const { model, parameters, untrained, identity, state } = this.equipment;
    const values = new Map([...untrained, ...(await state.read())]);
    for (const { name } of parameters) {
      if (!(values.get(name)!.data as Float32Array).every(Number.isFinite))
        throw this.diverged(`${name} has values that are no numbers`, this.step);
    }
    await writeCheckpoint(this.input, model, parameters, values, { step: this.step, run: identity });
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

/** Takes what is not trained out of a model's values. */
function takeUntrained(
  values: Map<string, HostTensor>,
  model: Model,
  trained: readonly ParameterSpec[],
): Map<string, HostTensor> {
  const names = new Set(trained.map(({ name }) => name));
  const others = parametersOf(model).filter(({ name }) => !names.has(name));
  return new Map(
    others.map(({ name }) => {
      const value = values.get(name)!;
      values.delete(name);
      return [name, value];
    }),
  );
}

/** All values of a new run, and the moments of the parameters that are trained: of new weights or adapters, or of another checkpoint's weights. */
async function fresh(
  { model, from, lora, settings }: TrainingInput,
  parameters: readonly ParameterSpec[],
): Promise<Map<string, HostTensor>> {
  if (lora) return initialMemory(parameters, settings.seed);
  if (from === undefined) return withMoments(initialWeights(parametersOf(model), settings.seed), parameters);
  return withMoments(await readWeights(from, model), parameters);
}
