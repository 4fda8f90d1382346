/**
 * The training step as a program: loss, gradients and update in one graph, with parameters and optimizer state as its states. On devices whose
 * runs copy states, one run has several steps.
 */
import { type Program, type StateSpec, stateChanges } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import {
  add,
  divide,
  fill,
  gather,
  gradient,
  input,
  inputName,
  loop,
  multiply,
  reshape,
  scalar,
  type Tensor,
  zeros,
} from '../graph/index.js';
import { lettersOf, lettersOfLayers, type Model, parametersOf } from '../models/index.js';
import { ParameterRegistry, type ParameterSpec, type StateTensors } from '../nn/index.js';
import type { Objective } from './data.js';
import { isMatrixOfLayer, muon } from './muon.js';
import {
  adamW,
  averagedWith,
  clipFactor,
  globalNorm,
  type OptimizerConfig,
  STEP_SCALARS,
  type StepFactors,
  scaled,
  stepFactors,
} from './optimizer.js';
import type { TrainingSettings } from './settings.js';

/** The sizes of a training program's batches. */
export interface TrainingShape {
  /** Sequences in a batch. */
  batch: number;
  /** Batches whose gradients are averaged for one step. */
  accumulate: number;
  /** Optimizer steps in one run of the program. */
  stepsPerRun: number;
}

/** The program of training steps, whose states are parameters and moments. */
export interface TrainingProgram {
  /**
   * Feeds the objective's inputs [stepsPerRun, accumulate, batch, ...] and `scalars` float32 [stepsPerRun, STEP_SCALARS]; returns
   * `loss` (the mean, in nats) and `norm` (of the gradient before clipping), float32 [stepsPerRun] each. Parameters that are
   * not trained are inputs: give them as the program's weights.
   */
  readonly program: Program;
  /** The trained parameters: adapters if the model has them, otherwise all with a nonzero rate; including statistics. */
  readonly parameters: readonly ParameterSpec[];
  /** The carried states [accumulate, batch, ...], which are further states of the program. */
  readonly memory: readonly StateSpec[];
}

/** The name of the state with Adam's first moment of a parameter. */
export function firstMoment(name: string): string {
  return `adam.first/${name}`;
}

/** The name of the state with Adam's second moment of a parameter. */
export function secondMoment(name: string): string {
  return `adam.second/${name}`;
}

/** The name of the state with Muon's momentum of a parameter. */
function momentum(name: string): string {
  return `muon.momentum/${name}`;
}

/** The name of the state with the present value of a parameter whose own state is its average over the steps. */
export function presentValue(name: string): string {
  return `present/${name}`;
}

/**
 * The names of a parameter's states beside its own: moments (statistics have none, since they have no gradient), and its present value if its own
 * state is an average.
 */
export function statesBeside(spec: ParameterSpec, model: Model, optimizer: OptimizerConfig): string[] {
  const { name } = spec;
  const present = optimizer.averageDecay === undefined ? [] : [presentValue(name)];
  if (spec.isStatistic) return present;
  if (isSteppedByMuon(spec, model, optimizer)) return [...present, momentum(name)];
  return [...present, firstMoment(name), secondMoment(name)];
}

function isSteppedByMuon(spec: ParameterSpec, model: Model, { muonMomentum }: OptimizerConfig): boolean {
  return muonMomentum !== undefined && isMatrixOfLayer(spec, model);
}

/** Carried states: states of a training program, inputs of an evaluation. */
export function carriedName(name: string): string {
  return `carried/${name}`;
}

/** New carried states: outputs of an evaluation. */
export function leftName(name: string): string {
  return `left/${name}`;
}

/**
 * Builds the program of training steps. Throws `ShapeError` if model and objective do not fit.
 */
export function trainingProgram(
  model: Model,
  objective: Objective,
  optimizer: OptimizerConfig,
  shape: TrainingShape,
  rates: TrainingSettings['rates'] = {},
): TrainingProgram {
  const { batch, accumulate, stepsPerRun } = shape;
  const examples = objective.inputs.map(({ name, dtype, shape: each }) =>
    input(name, dtype, [stepsPerRun, accumulate, batch, ...each]),
  );
  const scalars = input('scalars', 'float32', [stepsPerRun, STEP_SCALARS]);
  const specs = trainedOf(model, rates);
  const memory = memoryOf(objective, accumulate, batch);
  const states = [
    ...specs.flatMap((spec) => trainingStates(spec, statesBeside(spec, model, optimizer))),
    ...memory,
  ];
  const before = states.map(({ name, dtype, shape: dims }) => input(name, dtype, dims));

  const learned = specs.filter(({ isStatistic }) => !isStatistic);
  const statistics = specs.filter(({ isStatistic }) => isStatistic).map(({ name }) => name);
  const places = new Map(states.map(({ name }, i) => [name, i]));
  const averages = optimizer.averageDecay !== undefined;
  const stepped = (name: string): string => (averages ? presentValue(name) : name);

  const step = (index: Tensor, carried: readonly Tensor[]) => {
    const now = (name: string): Tensor => carried[places.get(name)!]!;
    const inStep = new ParameterRegistry(new Set(statistics));
    for (const spec of specs) {
      inStep.specs.set(spec.name, spec);
      inStep.tensors.set(spec.name, now(stepped(spec.name)));
    }
    const own = examples.map((each) => gather(each, index));
    const one = (batches: readonly Tensor[], before: BetweenBatches): OfBatch => {
      inStep.penalties.splice(0);
      for (const [i, name] of statistics.entries()) inStep.tensors.set(name, before.statistics[i]!);
      const { value, left } = meanLoss(model, inStep, objective, batches, before.memory);
      const minimized = inStep.penalties.reduce((sum, penalty) => add(sum, penalty), value);
      const parameters = learned.map(({ name }) => inStep.tensors.get(name)!);
      return {
        loss: value,
        gradients: gradient(minimized, parameters),
        statistics: statistics.map((name) => inStep.renewed.get(name)!),
        memory: left,
      };
    };
    const kept = {
      statistics: statistics.map((name) => now(stepped(name))),
      memory: memory.map(({ name }) => now(name)),
    };
    const result = averaged(own, kept, accumulate, one);
    const norm = globalNorm(result.gradients);
    const clip = clipFactor(norm, optimizer.maxGradientNorm);
    const factors = stepFactors(optimizer, gather(scalars, index), clip);
    const next = new Map(statistics.map((name, i) => [stepped(name), result.statistics[i]!]));
    for (const [i, { name }] of memory.entries()) next.set(name, result.memory[i]!);
    for (const [i, spec] of learned.entries()) {
      const own = scaled(factors, rateOf(spec.name, rates, model));
      const updated = isSteppedByMuon(spec, model, optimizer) ? updatedByMuon : updatedByAdamW;
      for (const [name, value] of updated(
        optimizer,
        spec,
        stepped(spec.name),
        result.gradients[i]!,
        now,
        own,
      ))
        next.set(name, value);
    }
    if (averages)
      for (const { name } of specs)
        next.set(name, averagedWith(now(name), next.get(presentValue(name))!, factors));
    return { carried: states.map(({ name }) => next.get(name)!), stacked: [result.loss, norm] };
  };
  const once = () => {
    const { carried, stacked } = step(scalar(0, 'int64'), before);
    return { carried: [...carried], stacked: stacked.map((value) => reshape(value, [1])) };
  };
  const { carried, stacked } = stepsPerRun === 1 ? once() : loop(stepsPerRun, before, step);
  const byName = (tensors: readonly Tensor[]): Record<string, Tensor> =>
    Object.fromEntries(states.map(({ name }, i) => [name, tensors[i]!]));
  return {
    parameters: specs,
    memory,
    program: {
      inputs: [...examples, scalars],
      spread: Object.fromEntries(objective.inputs.map(({ name }) => [name, 2])),
      outputs: { loss: stacked[0]!, norm: stacked[1]! },
      state: stateChanges(states, byName(before), byName(carried)),
    },
  };
}

/** The values of a parameter and of its moments after a step, by the names of their states; `state` is that of the parameter. */
type Updated = (
  optimizer: OptimizerConfig,
  spec: ParameterSpec,
  state: string,
  gradient: Tensor,
  now: (state: string) => Tensor,
  factors: StepFactors,
) => (readonly [state: string, value: Tensor])[];

const updatedByMuon: Updated = ({ muonMomentum }, { name }, state, gradient, now, factors) => {
  const after = muon(muonMomentum!, now(state), gradient, now(momentum(name)), factors);
  return [
    [state, after.parameter],
    [momentum(name), after.momentum],
  ];
};

const updatedByAdamW: Updated = (optimizer, { name, decay }, state, gradient, now, factors) => {
  const [first, second] = [firstMoment(name), secondMoment(name)];
  const moments = { first: now(first), second: now(second) };
  const after = adamW(optimizer, now(state), gradient, moments, factors, decay);
  return [
    [state, after.parameter],
    [first, after.moments.first],
    [second, after.moments.second],
  ];
};

/** A parameter's value, and its states beside it. */
function trainingStates(spec: ParameterSpec, beside: readonly string[]): StateSpec[] {
  return [spec.name, ...beside].map((name) => ({
    name,
    dtype: 'float32',
    shape: spec.shape,
    initial: 0,
  }));
}

/** Values that are carried from batch to batch: statistics, and the states of rows. */
interface BetweenBatches {
  readonly statistics: readonly Tensor[];
  readonly memory: readonly Tensor[];
}

/** The results of a batch. */
interface OfBatch extends BetweenBatches {
  readonly loss: Tensor;
  readonly gradients: readonly Tensor[];
}

/** Loss and gradients, averaged over examples [accumulate, batch, ...]; carried states have the same leading axes. */
function averaged(
  examples: readonly Tensor[],
  kept: BetweenBatches,
  accumulate: number,
  one: (batch: readonly Tensor[], before: BetweenBatches) => OfBatch,
): OfBatch {
  const { statistics, memory } = kept;
  if (accumulate === 1) {
    const [batch, before] = [examples, memory].map((all) => all.map((x) => reshape(x, x.shape.slice(1))));
    const result = one(batch!, { statistics, memory: before! });
    return { ...result, memory: result.memory.map((x) => reshape(x, [1, ...x.shape])) };
  }
  const like = ({ shape, dtype }: Tensor): Tensor => zeros(shape.slice(1), dtype);
  const example = one(examples.map(like), { statistics, memory: memory.map(like) });
  const initial = [fill([], 0), ...example.gradients.map(({ shape }) => zeros(shape)), ...statistics];
  const sums = example.gradients.length + 1;
  const { carried, stacked } = loop(accumulate, initial, (index, before) => {
    const at = (x: Tensor): Tensor => gather(x, index);
    const batch = one(examples.map(at), { statistics: before.slice(sums), memory: memory.map(at) });
    const added = [batch.loss, ...batch.gradients].map((value, i) => add(before[i]!, value));
    return { carried: [...added, ...batch.statistics], stacked: [...batch.memory] };
  });
  const [loss, ...gradients] = carried.slice(0, sums).map((total) => multiply(total, 1 / accumulate)) as [
    Tensor,
    ...Tensor[],
  ];
  return { loss, gradients, statistics: carried.slice(sums), memory: stacked };
}

/**
 * Sums over a batch of any number of examples, as float32 []: `loss`, `count`, and the objective's measures. It reads the
 * parameters of a training program's state, if they are named; the others are weights.
 */
export function evaluationProgram(
  model: Model,
  objective: Objective,
  trained: readonly ParameterSpec[] = [],
): Program {
  const registry = new ParameterRegistry();
  const inputs = objective.inputs.map(({ name, dtype, shape }) => input(name, dtype, ['batch', ...shape]));
  const memory = objective.memory ?? [];
  const before = memory.map(({ name, dtype, shape }) => input(carriedName(name), dtype, shape));
  const result = objective.loss(model, registry, named(objective, inputs), ...byNames(memory, before));
  const { total, count, measures } = result;
  const left = memory.map(({ name }): [string, Tensor] => [leftName(name), result.memory![name]!]);
  const parameters = Object.fromEntries(registry.tensors);
  const specs = trained.flatMap((spec) => trainingStates(spec, []));
  return {
    inputs: [...inputs, ...before],
    spread: Object.fromEntries([...inputs, ...before].map((x) => [inputName(x)!, 0])),
    outputs: { ...measures, loss: total, count, ...Object.fromEntries(left) },
    state: stateChanges(specs, parameters, parameters),
  };
}

function meanLoss(
  model: Model,
  registry: ParameterRegistry,
  objective: Objective,
  inputs: readonly Tensor[],
  memory: readonly Tensor[],
): { value: Tensor; left: readonly Tensor[] } {
  const specs = objective.memory ?? [];
  const result = objective.loss(model, registry, named(objective, inputs), ...byNames(specs, memory));
  return {
    value: divide(result.total, result.count),
    left: specs.map(({ name }) => result.memory![name]!),
  };
}

/** The new carried states [accumulate, batch, ...]. */
function memoryOf(objective: Objective, accumulate: number, batch: number): StateSpec[] {
  return (objective.memory ?? []).map((spec) => ({
    ...spec,
    name: carriedName(spec.name),
    shape: [accumulate, batch, ...spec.shape.slice(1)],
  }));
}

/** The inputs of an objective's carried states, if it has some. */
function byNames(specs: readonly StateSpec[], tensors: readonly Tensor[]): [StateTensors?] {
  return specs.length === 0 ? [] : [Object.fromEntries(specs.map(({ name }, i) => [name, tensors[i]!]))];
}

function named({ inputs }: Objective, tensors: readonly Tensor[]): Record<string, Tensor> {
  return Object.fromEntries(inputs.map(({ name }, i) => [name, tensors[i]!]));
}

/** The trainable parameters, which a run saves: adapters if the model has them, otherwise all. */
export function trainableOf(model: Model): ParameterSpec[] {
  return parametersOf(model).filter(({ adapts }) => !model.adapters || adapts !== undefined);
}

/** The parameters with nonzero rates. Throws `ConfigError` if there are none, or if a pattern matches no parameter. */
export function trainedOf(model: Model, rates: NonNullable<TrainingSettings['rates']> = {}): ParameterSpec[] {
  const specs = trainableOf(model);
  for (const pattern of Object.keys(rates)) {
    if (specs.some(({ name }) => fits(pattern, name, model))) continue;
    const isOfLayers = OF_LAYERS.test(pattern);
    const known = isOfLayers
      ? lettersOfLayers(model).map((letters) => `layer:${letters}`)
      : [...specs.slice(0, 3).map(({ name }) => name), 'and so on'];
    throw new ConfigError(
      `no parameter that is trained ${isOfLayers ? 'belongs to' : 'has a name like'} ${pattern}; there are ${known.join(', ')}`,
    );
  }
  const trained = specs.filter(({ name }) => rateOf(name, rates, model) > 0);
  if (trained.every(({ isStatistic }) => isStatistic))
    throw new ConfigError('all parameters have a learning rate of 0: nothing is trained');
  return trained;
}

/** The factor of a parameter's learning rate: that of the last matching pattern. */
function rateOf(name: string, rates: NonNullable<TrainingSettings['rates']>, model: Model): number {
  const fitting = Object.entries(rates).filter(([pattern]) => fits(pattern, name, model));
  return fitting.at(-1)?.[1] ?? 1;
}

/** Matches a pattern of layer letters, including single mixers of parallel layers. */
const OF_LAYERS = /^layer:(.+)$/s;

function fits(pattern: string, name: string, model: Model): boolean {
  const letters = OF_LAYERS.exec(pattern)?.[1];
  if (letters !== undefined) return lettersOf(model, name).includes(letters);
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}
