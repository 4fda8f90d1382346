/**
 * The training step as a program: loss, gradients and update in one graph, with parameters and optimizer state as its
 * states. Where a run copies them, several steps go into one.
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
  loop,
  multiply,
  reshape,
  scalar,
  type Tensor,
  zeros,
} from '../graph/index.js';
import { type Model, parametersOf } from '../models/index.js';
import { ParameterRegistry, type ParameterSpec } from '../nn/index.js';
import type { Objective } from './data.js';
import {
  type AdamWConfig,
  adamW,
  clipFactor,
  globalNorm,
  STEP_SCALARS,
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

export interface TrainingProgram {
  /**
   * Feeds the objective's inputs [stepsPerRun, accumulate, batch, ...] and `scalars` float32 [stepsPerRun, 3]; returns
   * `loss` (the mean, in nats) and `norm` (of the gradient before clipping), float32 [stepsPerRun] each. Parameters that are
   * not trained are inputs: give them as the program's weights.
   */
  readonly program: Program;
  /** Those that are trained: the adapters of a model that has them, else all whose rate is not 0. */
  readonly parameters: readonly ParameterSpec[];
}

export function firstMoment(name: string): string {
  return `adam.first/${name}`;
}

export function secondMoment(name: string): string {
  return `adam.second/${name}`;
}

/**
 * The program of training steps: it is fed examples, changes parameters and moments as its states, and gives the
 * losses. Throws `ShapeError` where the model and the objective do not fit.
 */
export function trainingProgram(
  model: Model,
  objective: Objective,
  optimizer: AdamWConfig,
  shape: TrainingShape,
  rates: TrainingSettings['rates'] = {},
): TrainingProgram {
  const { batch, accumulate, stepsPerRun } = shape;
  const examples = objective.inputs.map(({ name, dtype, shape: each }) =>
    input(name, dtype, [stepsPerRun, accumulate, batch, ...each]),
  );
  const scalars = input('scalars', 'float32', [stepsPerRun, STEP_SCALARS]);
  const specs = trainedOf(model, rates);
  const states = specs.flatMap(trainingStates);
  const before = states.map(({ name, dtype, shape: dims }) => input(name, dtype, dims));

  const step = (index: Tensor, carried: readonly Tensor[]) => {
    const inStep = new ParameterRegistry();
    for (const [i, spec] of specs.entries()) {
      inStep.specs.set(spec.name, spec);
      inStep.tensors.set(spec.name, carried[3 * i]!);
    }
    const own = examples.map((each) => gather(each, index));
    const { loss, gradients } = averaged(own, accumulate, (batches) => {
      inStep.penalties.splice(0);
      const value = meanLoss(model, inStep, objective, batches);
      const minimized = inStep.penalties.reduce((sum, penalty) => add(sum, penalty), value);
      const parameters = specs.map(({ name }) => inStep.tensors.get(name)!);
      return { loss: value, gradients: gradient(minimized, parameters) };
    });
    const norm = globalNorm(gradients);
    const clip = clipFactor(norm, optimizer.maxGradientNorm);
    const factors = stepFactors(optimizer, gather(scalars, index), clip);
    const next = specs.flatMap((spec, i) => {
      const moments = { first: carried[3 * i + 1]!, second: carried[3 * i + 2]! };
      const own = scaled(factors, rateOf(spec.name, rates));
      const result = adamW(optimizer, carried[3 * i]!, gradients[i]!, moments, own, spec.decay);
      return [result.parameter, result.moments.first, result.moments.second];
    });
    return { carried: next, stacked: [loss, norm] };
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
    program: {
      inputs: [...examples, scalars],
      spread: Object.fromEntries(objective.inputs.map(({ name }) => [name, 2])),
      outputs: { loss: stacked[0]!, norm: stacked[1]! },
      state: stateChanges(states, byName(before), byName(carried)),
    },
  };
}

/** What is kept of a parameter from step to step: its value, and its moments. */
function trainingStates({ name, shape }: ParameterSpec): StateSpec[] {
  return [name, firstMoment(name), secondMoment(name)].map((each) => ({
    name: each,
    dtype: 'float32',
    shape,
    initial: 0,
  }));
}

/** Loss and gradients, averaged over the rows of examples [accumulate, batch, ...]. */
function averaged(
  examples: readonly Tensor[],
  accumulate: number,
  one: (batch: readonly Tensor[]) => { loss: Tensor; gradients: Tensor[] },
): { loss: Tensor; gradients: Tensor[] } {
  if (accumulate === 1) return one(examples.map((each) => reshape(each, each.shape.slice(1))));
  const example = examples.map(({ shape, dtype }) => zeros(shape.slice(1), dtype));
  const shapes = one(example).gradients.map(({ shape }) => shape);
  const initial = [fill([], 0), ...shapes.map((shape) => zeros(shape))];
  const { carried } = loop(accumulate, initial, (index, sums) => {
    const { loss, gradients } = one(examples.map((each) => gather(each, index)));
    return { carried: [loss, ...gradients].map((value, i) => add(sums[i]!, value)), stacked: [] };
  });
  const [loss, ...gradients] = carried.map((total) => multiply(total, 1 / accumulate)) as [
    Tensor,
    ...Tensor[],
  ];
  return { loss, gradients };
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
  const { total, count, measures } = objective.loss(model, registry, named(objective, inputs));
  const parameters = Object.fromEntries(registry.tensors);
  const specs = trained.flatMap((spec) => trainingStates(spec).slice(0, 1));
  return {
    inputs,
    spread: Object.fromEntries(objective.inputs.map(({ name }) => [name, 0])),
    outputs: { ...measures, loss: total, count },
    state: stateChanges(specs, parameters, parameters),
  };
}

function meanLoss(
  model: Model,
  registry: ParameterRegistry,
  objective: Objective,
  inputs: readonly Tensor[],
): Tensor {
  const { total, count } = objective.loss(model, registry, named(objective, inputs));
  return divide(total, count);
}

function named({ inputs }: Objective, tensors: readonly Tensor[]): Record<string, Tensor> {
  return Object.fromEntries(inputs.map(({ name }, i) => [name, tensors[i]!]));
}

/** Throws `ConfigError` where nothing is left to train, or a pattern fits no parameter. */
function trainedOf(model: Model, rates: NonNullable<TrainingSettings['rates']>): ParameterSpec[] {
  const specs = parametersOf(model).filter(({ adapts }) => !model.adapters || adapts !== undefined);
  for (const pattern of Object.keys(rates)) {
    if (specs.some(({ name }) => fits(pattern, name))) continue;
    throw new ConfigError(
      `no parameter that is trained has a name like ${pattern}; there are ${specs
        .slice(0, 3)
        .map(({ name }) => name)
        .join(', ')} and so on`,
    );
  }
  const trained = specs.filter(({ name }) => rateOf(name, rates) > 0);
  if (trained.length === 0)
    throw new ConfigError('all parameters have a learning rate of 0: nothing is trained');
  return trained;
}

/** The factor of a parameter's learning rate: that of the last pattern that fits its name. */
function rateOf(name: string, rates: NonNullable<TrainingSettings['rates']>): number {
  const fitting = Object.entries(rates).filter(([pattern]) => fits(pattern, name));
  return fitting.at(-1)?.[1] ?? 1;
}

function fits(pattern: string, name: string): boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}
