/**
 * The training step as a program: loss, gradients and update in one graph, with parameters and optimizer state as its
 * states. Where a run copies them, several steps go into one.
 */
import { type Program, type StateSpec, stateChanges } from '../engine/index.js';
import {
  add,
  crossEntropy,
  fill,
  gather,
  gradient,
  input,
  loop,
  mean,
  multiply,
  reshape,
  scalar,
  slice,
  sum,
  type Tensor,
  zeros,
} from '../graph/index.js';
import { forward, logitsOf, type Model, parametersOf } from '../models/index.js';
import { ParameterRegistry, type ParameterSpec } from '../nn/index.js';
import { type AdamWConfig, adamW, clipFactor, globalNorm, STEP_SCALARS, stepFactors } from './optimizer.js';

export interface TrainingShape {
  /** Sequences in a batch. */
  batch: number;
  /** Tokens in a sequence. */
  sequence: number;
  /** Batches whose gradients are averaged for one step. */
  accumulate: number;
  /** Optimizer steps in one run of the program. */
  stepsPerRun: number;
}

export interface TrainingProgram {
  /**
   * Feeds `tokens` int64 [stepsPerRun, accumulate, batch, sequence + 1] and `scalars` float32 [stepsPerRun, 3]; returns
   * `loss` (nats a token) and `norm` (of the gradient before clipping), float32 [stepsPerRun] each. Parameters that are
   * not trained are inputs: give them as the program's weights.
   */
  readonly program: Program;
  /** Those that are trained: the adapters of a model that has them, else all. */
  readonly parameters: readonly ParameterSpec[];
}

export function firstMoment(name: string): string {
  return `adam.first/${name}`;
}

export function secondMoment(name: string): string {
  return `adam.second/${name}`;
}

/** Mean negative log-likelihood of each next token in tokens [batch, sequence + 1]. */
export function languageModelLoss(model: Model, registry: ParameterRegistry, tokens: Tensor): Tensor {
  return mean(tokenLosses(model, registry, tokens));
}

function tokenLosses(model: Model, registry: ParameterRegistry, tokens: Tensor): Tensor {
  const length = tokens.shape[1] as number;
  const { hidden } = forward(model, registry, slice(tokens, 1, 0, length - 1), scalar(0, 'int64'));
  const rows = reshape(hidden, [-1, hidden.shape.at(-1)!]);
  return crossEntropy(logitsOf(model, registry, rows), reshape(slice(tokens, 1, 1, length), [-1]));
}

export function trainingProgram(model: Model, optimizer: AdamWConfig, shape: TrainingShape): TrainingProgram {
  const { batch, sequence, accumulate, stepsPerRun } = shape;
  const tokens = input('tokens', 'int64', [stepsPerRun, accumulate, batch, sequence + 1]);
  const scalars = input('scalars', 'float32', [stepsPerRun, STEP_SCALARS]);
  const specs = parametersOf(model).filter(({ adapts }) => !model.adapters || adapts !== undefined);
  const states = specs.flatMap(trainingStates);
  const before = states.map(({ name, dtype, shape: dims }) => input(name, dtype, dims));

  const step = (index: Tensor, carried: readonly Tensor[]) => {
    const inStep = new ParameterRegistry();
    for (const [i, spec] of specs.entries()) {
      inStep.specs.set(spec.name, spec);
      inStep.tensors.set(spec.name, carried[3 * i]!);
    }
    const { loss, gradients } = averaged(gather(tokens, index), accumulate, (rows) => {
      const value = languageModelLoss(model, inStep, rows);
      const parameters = specs.map(({ name }) => inStep.tensors.get(name)!);
      return { loss: value, gradients: gradient(value, parameters) };
    });
    const norm = globalNorm(gradients);
    const clip = clipFactor(norm, optimizer.maxGradientNorm);
    const factors = stepFactors(optimizer, gather(scalars, index), clip);
    const next = specs.flatMap((spec, i) => {
      const moments = { first: carried[3 * i + 1]!, second: carried[3 * i + 2]! };
      const result = adamW(optimizer, carried[3 * i]!, gradients[i]!, moments, factors, spec.decay);
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
      inputs: [tokens, scalars],
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

/** Loss and gradients, averaged over the rows of tokens [accumulate, batch, sequence + 1]. */
function averaged(
  tokens: Tensor,
  accumulate: number,
  one: (rows: Tensor) => { loss: Tensor; gradients: Tensor[] },
): { loss: Tensor; gradients: Tensor[] } {
  if (accumulate === 1) return one(reshape(tokens, tokens.shape.slice(1)));
  const shapes = one(zeros(tokens.shape.slice(1), 'int64')).gradients.map(({ shape }) => shape);
  const initial = [fill([], 0), ...shapes.map((shape) => zeros(shape))];
  const { carried } = loop(accumulate, initial, (index, sums) => {
    const { loss, gradients } = one(gather(tokens, index));
    return { carried: [loss, ...gradients].map((value, i) => add(sums[i]!, value)), stacked: [] };
  });
  const [loss, ...gradients] = carried.map((total) => multiply(total, 1 / accumulate)) as [
    Tensor,
    ...Tensor[],
  ];
  return { loss, gradients };
}

/**
 * The sum of the losses over tokens int64 [batch, sequence + 1], in nats, as `loss` []. It reads the parameters of a training program's
 * state, if they are named; the others are weights.
 */
export function evaluationProgram(
  model: Model,
  sequence: number,
  trained: readonly ParameterSpec[] = [],
): Program {
  const registry = new ParameterRegistry();
  const tokens = input('tokens', 'int64', ['batch', sequence + 1]);
  const loss = sum(tokenLosses(model, registry, tokens));
  const parameters = Object.fromEntries(registry.tensors);
  const specs = trained.flatMap((spec) => trainingStates(spec).slice(0, 1));
  return { inputs: [tokens], outputs: { loss }, state: stateChanges(specs, parameters, parameters) };
}
