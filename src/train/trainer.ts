/**
 * The training loop. A run's folder has `checkpoint`, a model in Hugging Face's layout (or an adapter) with everything for resuming, and the log
 * `metrics.jsonl`. On the CPU a run that is interrupted and resumed ends with the same bits as an uninterrupted one.
 */
import { nextTurn } from '#platform';
import { expectObject } from '../arguments.js';
import { float32, type HostTensor } from '../engine/index.js';
import { ConfigError, DivergenceError } from '../errors.js';
import { expectLayers, parametersOf, readWeights, withLora } from '../models/index.js';
import type { ParameterSpec } from '../nn/index.js';
import { type Best, identityOf, type RunIdentity, readCheckpoint, writeCheckpoint } from './checkpoint.js';
import type { TrainingData } from './data.js';
import {
  type Equipment,
  equip,
  initialWeights,
  MOST_STEPS_PER_RUN,
  type Subject,
  subjectOf,
} from './equipment.js';
import { evaluate, feedsOf } from './evaluate.js';
import type { TrainingEvent, TrainingInput, TrainingResult } from './input.js';
import { expectRoomToTrain } from './memory-need.js';
import { STEP_SCALARS, stepScalars } from './optimizer.js';
import { type PlacedPhase, phaseAfter, phaseBefore, phasesOf } from './phases.js';
import { trainableOf, trainedOf } from './program.js';
import { RunFolder } from './run-folder.js';
import { learningRateAt } from './schedule.js';
import { checkSettings } from './settings.js';
import { taught } from './teacher.js';

/** The most batches of an evaluation, so that it does not dominate training. */
const EVALUATION_BATCHES = 64;
/** The runs that are enqueued at a time on an asynchronous device, so that the next batch is prepared while one is computed. */
const RUNS_AHEAD = 2;

/** Throws `ConfigError` for settings that are out of range, or do not fit the model. Nothing is read, and no device is needed. */
export function checkRun({
  model,
  from,
  lora,
  settings,
}: Pick<TrainingInput, 'model' | 'from' | 'lora' | 'settings'>): void {
  checkSettings(settings);
  if (lora && from === undefined) {
    throw new ConfigError(
      'adapters are trained beside the weights of a model: name the folder that it starts from',
    );
  }
  if (lora && settings.optimizer.muonMomentum !== undefined)
    throw new ConfigError('Muon is for the matrices of layers, and not for adapters: train them with AdamW');
  const trained = lora ? withLora(model, lora) : model;
  expectLayers(trained, settings.precisions);
  for (const phase of phasesOf(settings)) trainedOf(trained, phase.settings.rates);
}

/** Trains a model; saves a checkpoint also when it is interrupted. */
export async function train(input: TrainingInput): Promise<TrainingResult> {
  expectObject(input, 'the run is', 'an object with model, data, settings, device and folder');
  checkRun(input);
  const { group } = input.device;
  group?.begin();
  try {
    const run = await Run.open(input);
    try {
      return await run.loop();
    } finally {
      await run.close().finally(() => run.folder?.unlock());
    }
  } catch (error) {
    // The others would wait for this process.
    await group?.fail((error as Error).message).catch(() => {});
    throw error;
  }
}

/** An enqueued run of the program. */
interface Asked {
  /** The learning rates of its steps, up to the last step of the schedule. */
  readonly rates: readonly number[];
  /** In milliseconds of `performance.now()`. */
  readonly started: number;
  readonly outputs: Promise<Record<string, HostTensor>>;
}

class Run {
  private readonly input: TrainingInput;
  private isClosed = false;
  /** When the last run ended, in milliseconds of `performance.now()`. */
  private settledAt = 0;
  private perplexity: number | undefined;
  /** The step of the checkpoint in the folder, if there is one of this run. */
  private savedStep: number | undefined;

  private constructor(
    private readonly subject: Subject,
    private readonly identity: RunIdentity,
    private readonly phases: readonly PlacedPhase[],
    /** Of each phase. */
    private readonly data: readonly TrainingData[],
    private equipment: Equipment,
    private step: number,
    /** The best evaluation of the phase, if the run keeps its weights. */
    private best: Best | undefined,
    /** The run's files; undefined for all but the first of several processes that compute together. */
    readonly folder: RunFolder | undefined,
  ) {
    this.input = subject.input;
    this.savedStep = this.input.resume ? step : undefined;
  }

  static async open(input: TrainingInput): Promise<Run> {
    const { settings, device, resume = false } = input;
    const phases = phasesOf(settings);
    // All checks are made before anything is written.
    const subject = await subjectOf(input);
    const { model, teacher } = subject;
    const data = phases.map((phase) => {
      const own = input.data(input.model, phase.settings);
      return teacher ? taught(own, teacher) : own;
    });
    const trained = phases.map((phase) => trainedOf(model, phase.settings.rates));
    expectRoomToTrain(subject, phases, data);
    const initial = resume ? undefined : await initialValues(subject, data[0]!);
    const writesFiles = (device.group?.process ?? 0) === 0;
    const folder = writesFiles ? await RunFolder.open(input.folder, resume) : undefined;
    try {
      const identity = await identityOf(input, data[0]!);
      const trainedAt = (step: number): ParameterSpec[] =>
        trained[phases.indexOf(phaseBefore(phases, step))]!;
      const { step, values, best } = initial
        ? { step: 0, values: initial }
        : await readCheckpoint(input, model, trainedAt, identity);
      await expectSameRun(input, identity, step);
      const phase = phaseAfter(phases, step);
      const equipment = await equip(subject, phase, data[phases.indexOf(phase)]!, values, step);
      await folder?.trimLog(step);
      const isOfPhase = keepsBest(input, data) && phase === phaseBefore(phases, step);
      return new Run(subject, identity, phases, data, equipment, step, isOfPhase ? best : undefined, folder);
    } catch (error) {
      await folder?.unlock();
      throw error;
    }
  }

  /** Compiles the phase of the next step, which continues from the present parameters and moments. */
  private async enter(phase: PlacedPhase): Promise<void> {
    const data = this.data[this.phases.indexOf(phase)]!;
    const { untrained, state } = this.equipment;
    const values = new Map([...untrained, ...(await this.together(state.read()))]);
    await this.close();
    this.equipment = await equip(this.subject, phase, data, values, this.step);
    this.isClosed = false;
    this.best = undefined;
    if (this.keepsBest) await this.evaluate();
  }

  private get keepsBest(): boolean {
    return keepsBest(this.input, this.data);
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    const { state, training, evaluation } = this.equipment;
    state.dispose();
    await training.dispose();
    await evaluation.dispose();
  }

  async loop(): Promise<TrainingResult> {
    const { settings } = this.input;
    // A resumed run that was complete already is evaluated again.
    const isUnknown = this.keepsBest && !this.best;
    if (this.step === 0 || this.step >= settings.steps || isUnknown) await this.evaluate();
    const most = this.input.device.runsAhead ? RUNS_AHEAD : 1;
    const asked: Asked[] = [];
    let next = this.step;
    const passed = (every: number, from: number, to: number): boolean =>
      Math.floor(to / every) > Math.floor(from / every);
    while (this.step < settings.steps) {
      const { phase } = this.equipment;
      // Evaluation and checkpoints need the parameters after exactly that step, so no run beyond it is enqueued before.
      const pauses = (to: number): boolean =>
        to >= phase.end ||
        [settings.evaluateEvery, settings.saveEvery].some((every) => passed(every, this.step, to));
      while (asked.length < most && (asked.length === 0 || !pauses(next)) && (await this.goesOn(next))) {
        asked.push(this.ask(next));
        next += asked.at(-1)!.rates.length;
      }
      const run = asked.shift();
      if (!run) break;
      const before = this.step;
      await this.settle(run).catch(async (error: unknown) => {
        await this.together(Promise.allSettled(asked.map(({ outputs }) => outputs))).catch(() => {});
        throw error;
      });
      const done = this.step >= settings.steps;
      if (passed(settings.evaluateEvery, before, this.step) || done) await this.evaluate();
      if (passed(settings.saveEvery, before, this.step) || done) await this.save();
      if (this.step >= phase.end && !done && (await this.goesOn(this.step)))
        await this.enter(phaseAfter(this.phases, this.step));
      // Lets signals and timers run, since the engine computes on this thread.
      await nextTurn();
    }
    if (this.savedStep !== this.step) await this.save();
    const best = this.best?.evaluation;
    return {
      step: this.step,
      completed: this.step >= settings.steps,
      perplexity: best ? best.perplexity : this.perplexity,
      ...(best && { best }),
    };
  }

  /**
   * Whether the run after `next` steps is to begin. Processes that compute together have to stop after the same step, which the one that is
   * interrupted proposes: none of them has begun more than `RUNS_AHEAD` runs beyond those that this one has begun, of whatever phase.
   */
  private async goesOn(next: number): Promise<boolean> {
    const { signal, device } = this.input;
    if (!device.group) return !signal?.aborted;
    const proposal = signal?.aborted ? next + RUNS_AHEAD * MOST_STEPS_PER_RUN : undefined;
    return next < (await device.group.atMost('steps', proposal));
  }

  /** Waits for what the other processes are needed for, if there are any. Throws if one of them fails meanwhile. */
  private together<T>(work: Promise<T>): Promise<T> {
    return this.input.device.group?.together(work) ?? work;
  }

  /**
   * Enqueues one run of the program, after `done` steps. A run may have steps beyond the end of the schedule, with a learning rate of 0: they change
   * only the moments, which matters only if the run is resumed for more steps.
   */
  private ask(done: number): Asked {
    const { settings } = this.input;
    const { phase, stepsPerRun: count, data, training, state } = this.equipment;
    const { batch, accumulate } = phase.settings;
    const scalars = new Float32Array(count * STEP_SCALARS);
    const rates: number[] = [];
    for (let i = 0; i < count; i++) {
      const step = done + i + 1;
      const rate = step <= settings.steps ? learningRateAt(settings, step) : 0;
      if (step <= settings.steps) rates.push(rate);
      scalars.set(stepScalars(settings.optimizer, step, rate), i * STEP_SCALARS);
    }
    const perStep = batch * accumulate;
    const first = phase.examples + (done - phase.start) * perStep;
    const examples = data.training.take(first, count * perStep);
    const started = performance.now();
    const feeds = {
      ...feedsOf(data.objective, examples, [count, accumulate, batch]),
      scalars: float32(scalars, [count, STEP_SCALARS]),
    };
    const outputs = training.run(feeds, [state]);
    // An earlier run may fail first; this one's rejection must not count as unhandled then.
    outputs.catch(() => undefined);
    return { rates, started, outputs };
  }

  /** Waits for a run, and reports its steps. */
  private async settle({ rates, started, outputs }: Asked): Promise<void> {
    const { batch, accumulate, sequence } = this.equipment.phase.settings;
    const { loss: losses, norm } = await this.together(outputs);
    const now = performance.now();
    // An enqueued run begins when the one before it ends.
    const seconds = (now - Math.max(started, this.settledAt)) / 1000;
    this.settledAt = now;
    const tokens = this.equipment.stepsPerRun * batch * accumulate * sequence;
    const events: TrainingEvent[] = [];
    for (const [i, learningRate] of rates.entries()) {
      const step = this.step + 1;
      const loss = losses!.data[i] as number;
      const gradientNorm = norm!.data[i] as number;
      if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
        await this.report(...events);
        throw this.diverged(`the loss became ${loss} (gradient norm ${gradientNorm})`, step);
      }
      this.step = step;
      events.push({
        event: 'step',
        step,
        loss,
        gradientNorm,
        learningRate,
        tokensPerSecond: tokens / seconds,
      });
    }
    await this.report(...events);
  }

  /** Evaluates on held-out data, and generates a sample. */
  private async evaluate(): Promise<void> {
    const { phase, evaluation, data, state } = this.equipment;
    const { batch } = phase.settings;
    const limit = EVALUATION_BATCHES * batch;
    const result = await this.together(
      evaluate(evaluation, data.objective, data.validation, batch, {
        state,
        limit,
        ofTokens: !this.subject.model.modality,
      }),
    );
    if (!Number.isFinite(result.loss))
      throw this.diverged(`the validation loss became ${result.loss}`, this.step);
    this.perplexity = result.perplexity;
    await this.report({ event: 'evaluation', step: this.step, ...result });
    const { parameters, frozen } = this.equipment;
    const read = () => this.together(state.read(parameters.map(({ name }) => name)));
    if (this.keepsBest && !(this.best && this.best.evaluation.loss <= result.loss))
      this.best = { evaluation: { step: this.step, ...result }, weights: await read() };
    const { sample } = this.input;
    if (!sample) return;
    const trained = await read();
    if (!this.folder) return;
    const written = await sample(this.subject.model, new Map([...frozen, ...trained]));
    await this.report({ event: 'sample', step: this.step, ...written });
  }

  private async save(): Promise<void> {
    const { parameters, memory, untrained, state } = this.equipment;
    const values = new Map([...untrained, ...(await this.together(state.read()))]);
    for (const { name } of parameters) {
      if (!(values.get(name)!.data as Float32Array).every(Number.isFinite))
        throw this.diverged(`${name} has values that are no numbers`, this.step);
    }
    const progress = { step: this.step, run: this.identity };
    if (this.folder)
      await writeCheckpoint(this.input, this.subject.model, parameters, values, memory, progress, this.best);
    this.savedStep = this.step;
    const of = this.best?.evaluation.step ?? this.step;
    await this.report({ event: 'saved', step: this.step, ...(of < this.step && { of }) });
  }

  private diverged(what: string, step: number): DivergenceError {
    const left =
      this.savedStep === undefined
        ? 'nothing was saved'
        : `the checkpoint of step ${this.savedStep} stays as it was`;
    return new DivergenceError(`${what} at step ${step}; ${left}. Train again with a lower learning rate.`);
  }

  private async report(...events: readonly TrainingEvent[]): Promise<void> {
    for (const event of events) this.input.onEvent?.(event);
    await this.folder?.append(events);
  }
}

/** Whether a run leaves the weights of its best evaluation. */
function keepsBest({ settings }: TrainingInput, [data]: readonly TrainingData[]): boolean {
  return (settings.keep ?? data!.keep) === 'best';
}

/** Throws `DeviceError` where processes that are to compute together were given different runs. */
async function expectSameRun(
  { device: { group }, settings, sample }: TrainingInput,
  identity: RunIdentity,
  step: number,
): Promise<void> {
  if (!group) return;
  const { evaluateEvery, saveEvery, steps } = settings;
  const run = [identity, evaluateEvery, saveEvery, steps, sample !== undefined];
  await group.expectSame('settings or data', JSON.stringify(run));
  await group.expectSame('checkpoint to go on from', String(step));
}

/** The initial values of a new run, without moments: initialized weights or adapters, or the weights of a checkpoint. */
async function initialValues(
  { input, model, base }: Subject,
  data: TrainingData,
): Promise<Map<string, HostTensor>> {
  const { from, settings } = input;
  if (base) return initialWeights(trainableOf(model), settings.seed);
  if (from !== undefined) return readWeights(from, model);
  const values = initialWeights(parametersOf(model), settings.seed);
  for (const [name, found] of data.initial?.() ?? [])
    values.set(name, float32(found, values.get(name)!.dims));
  return values;
}
