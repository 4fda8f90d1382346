/** The compiled programs of a phase, and their state. */
import {
  type Device,
  type Executable,
  float32,
  type HostTensor,
  type State,
  type StateSpec,
  type Weight,
} from '../engine/index.js';
import type { Precision } from '../graph/index.js';
import {
  countParameters,
  locateWeights,
  type Model,
  ofLayer,
  parametersOf,
  withLora,
} from '../models/index.js';
import { type ParameterSpec, Random } from '../nn/index.js';
import type { TrainingData } from './data.js';
import type { TrainingInput } from './input.js';
import type { PlacedPhase } from './phases.js';
import { evaluationProgram, presentValue, trainableOf, trainingProgram } from './program.js';
import type { TrainingSettings } from './settings.js';
import { readTeacher, type Teacher, teacherWeights } from './teacher.js';

/** The most steps of a run, and its most FLOPs, on a device that prefers several steps in one run. */
export const MOST_STEPS_PER_RUN = 8;
const FLOPS_PER_RUN = 1e11;
/** The same on an asynchronous device, which is a large GPU: a tenth of a second of an H200. */
const FLOPS_PER_RUN_AHEAD = 1e13;
/**
 * The steps of one run of the training program. Signals and progress are handled between runs, so a run should take about a second. There are 6
 * FLOPs for each parameter and token (Kaplan et al., 2020).
 */
export function stepsPerRunOn(device: Device, model: Model, tokensPerStep: number): number {
  if (!device.prefersLongRuns) return 1;
  const flops = 6 * countParameters(parametersOf(model)) * tokensPerStep;
  const most = device.runsAhead ? FLOPS_PER_RUN_AHEAD : FLOPS_PER_RUN;
  return Math.min(MOST_STEPS_PER_RUN, Math.max(1, Math.floor(most / flops)));
}

/** Initializes weights from the seed. */
export function initialWeights(parameters: readonly ParameterSpec[], seed: number): Map<string, HostTensor> {
  const random = new Random(seed);
  return new Map(
    parameters.map(({ name, shape, initialize }) => [name, float32(initialize(random, shape), shape)]),
  );
}

/** The parts that all phases of a run share. */
export interface Subject {
  readonly input: TrainingInput;
  /** The model, with its adapters if they are trained. */
  readonly model: Model;
  /** The frozen base weights of adapters, which are read from files on use and have no gradients and moments. */
  readonly base: ReadonlyMap<string, Weight> | undefined;
  readonly teacher: Teacher | undefined;
}

/** Opens the model, base weights and teacher of a run. Throws `CheckpointError` for weights that are missing or do not fit. */
export async function subjectOf(input: TrainingInput): Promise<Subject> {
  const { model, lora, from, teacher } = input;
  return {
    input,
    model: lora ? withLora(model, lora) : model,
    base: lora && from !== undefined ? await locateWeights(from, model) : undefined,
    teacher: teacher && (await readTeacher(teacher)),
  };
}

/** The programs and state of a phase. */
export interface Equipment {
  readonly phase: PlacedPhase;
  readonly data: TrainingData;
  readonly parameters: readonly ParameterSpec[];
  /** The carried states, as states of the program. */
  readonly memory: readonly StateSpec[];
  /** Weights that are frozen in this phase. */
  readonly frozen: ReadonlyMap<string, Weight>;
  /** Frozen weights that are saved, since another phase may train them; without the base weights of adapters. */
  readonly untrained: ReadonlyMap<string, HostTensor>;
  readonly stepsPerRun: number;
  readonly training: Executable;
  readonly evaluation: Executable;
  /** Parameters and moments. */
  readonly state: State;
}

/**
 * Compiles a phase from all values of a run after `step` steps. Missing moments are 0, and a missing present value is the average. Carried states are reset if the phase has other row
 * lengths or another number of rows, since its rows start at other positions of the documents.
 */
export async function equip(
  { input, model, base, teacher }: Subject,
  phase: PlacedPhase,
  data: TrainingData,
  values: Map<string, HostTensor>,
  step: number,
): Promise<Equipment> {
  const { device } = input;
  const { batch, sequence, accumulate, optimizer, rates } = phase.settings;
  const { objective } = data;
  const most = stepsPerRunOn(device, model, batch * sequence * accumulate);
  const isLast = phase.end >= input.settings.steps;
  const stepsPerRun = isLast ? most : largestDivisor(phase.end - step, most);
  const shape = { batch, accumulate, stepsPerRun };
  const { program, parameters, memory } = trainingProgram(model, objective, optimizer, shape, rates);
  const untrained = takeUntrained(values, model, parameters);
  const frozen = new Map<string, Weight>([...(base ?? []), ...untrained]);
  const weights = teacher ? new Map([...frozen, ...teacherWeights(teacher)]) : frozen;
  const { precisions } = input.settings;
  const inLayers = precisions && { precisionOf: precisionsOf(model, precisions) };
  const training = await device.compile({ ...program, ...inLayers, weights });
  const evaluation = await device.compile({
    ...evaluationProgram(model, objective, parameters),
    ...inLayers,
    weights: frozen,
  });
  if (optimizer.averageDecay !== undefined) {
    for (const { name } of parameters) {
      const { data, dims } = values.get(name)!;
      const present = presentValue(name);
      if (!values.has(present)) values.set(present, float32((data as Float32Array).slice(), dims));
    }
  }
  const isForgotten = step === phase.start && !phase.goesOn;
  const forgotten = new Set(isForgotten ? memory.map(({ name }) => name) : []);
  const initial = new Map(
    (program.state ?? []).flatMap(({ spec: { name } }) => {
      const value = values.get(name);
      return value && !forgotten.has(name) ? [[name, value] as const] : [];
    }),
  );
  const state = training.newState(initial);
  return { phase, data, parameters, memory, frozen, untrained, stepsPerRun, training, evaluation, state };
}

/** The precision of layers' nodes, forward and backward, from settings by letter. */
export function precisionsOf(
  model: Model,
  precisions: NonNullable<TrainingSettings['precisions']>,
): (path: string) => Precision | undefined {
  return (path) => ofLayer(model, precisions, `${path.replace(/^(?:gradient\.)+/, '')}.`);
}

/** The largest whole number up to `most` that divides `steps`. */
function largestDivisor(steps: number, most: number): number {
  for (let count = Math.min(most, steps); count > 1; count--) if (steps % count === 0) return count;
  return 1;
}

/** Removes frozen but trainable parameters from a run's values. */
function takeUntrained(
  values: Map<string, HostTensor>,
  model: Model,
  trained: readonly ParameterSpec[],
): Map<string, HostTensor> {
  const names = new Set(trained.map(({ name }) => name));
  const others = trainableOf(model).filter(({ name }) => !names.has(name));
  return new Map(
    others.map(({ name }) => {
      const value = values.get(name)!;
      values.delete(name);
      return [name, value];
    }),
  );
}
