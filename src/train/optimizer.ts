/**
 * AdamW (Loshchilov & Hutter, 2019) with clipping by the global norm, as graph nodes. Values that change from step to step are inputs, so that
 * one program serves the whole schedule.
 */
import {
  add,
  divide,
  minimum,
  multiply,
  split,
  sqrt,
  subtract,
  sumOfSquares,
  type Tensor,
  wide,
} from '../graph/index.js';

/** AdamW (Loshchilov & Hutter, 2019, arXiv 1711.05101), with the gradient's norm clipped before; Muon for matrices, if it is asked for. */
export interface OptimizerConfig extends AdamWConfig {
  /**
   * If present, an exponential moving average of the weights over the steps, with this decay, is what is evaluated and saved (Polyak & Juditsky,
   * 1992). Early on its decay is less: (1 + step) / (10 + step) at most, as in TensorFlow's ExponentialMovingAverage.
   */
  averageDecay?: number;
  /**
   * If present, Muon (muon.ts) with this momentum updates the matrices of layers, at the same learning rate and weight decay.
   */
  muonMomentum?: number;
}

/** AdamW (Loshchilov & Hutter, 2019), with clipping of gradients by their global norm. */
export interface AdamWConfig {
  /** Decay rates of the first and second moments. */
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Decoupled weight decay, relative to the learning rate. */
  weightDecay: number;
  /** The limit of the global gradient norm. */
  maxGradientNorm: number;
}

/** The defaults. */
export const ADAMW_DEFAULTS: AdamWConfig = {
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  maxGradientNorm: 1,
};

/** The same with Muon. */
export const MUON_DEFAULTS: OptimizerConfig = { ...ADAMW_DEFAULTS, muonMomentum: 0.95 };

/**
 * Numbers of one step: [step size with bias correction, epsilon with bias correction, factor of decayed parameters, learning rate, weight of the
 * new parameters in their average].
 */
export const STEP_SCALARS = 5;

/** The numbers of step `step` (1 for the first) at a learning rate; with one of 0 the step counts in no average. */
export function stepScalars(config: OptimizerConfig, step: number, learningRate: number): number[] {
  const first = 1 - config.beta1 ** step;
  const second = Math.sqrt(1 - config.beta2 ** step);
  const kept = 1 - learningRate * config.weightDecay;
  const averaged = learningRate === 0 ? 0 : 1 - Math.min(config.averageDecay ?? 0, (1 + step) / (10 + step));
  return [(learningRate * second) / first, config.epsilon * second, kept, learningRate, averaged];
}

/** sqrt(sum of all squares). */
export function globalNorm(gradients: readonly Tensor[]): Tensor {
  return sqrt(gradients.map((g) => sumOfSquares(g)).reduce((a, b) => add(a, b)));
}

/** The clip factor for a norm: min(1, limit / norm). */
export function clipFactor(norm: Tensor, limit: number): Tensor {
  return minimum(divide(limit, add(norm, 1e-6)), 1);
}

/** Adam's first and second moments, in the shape of the parameter. */
export interface Moments {
  readonly first: Tensor;
  readonly second: Tensor;
}

/** The factors by which one step mixes, each a scalar. */
export interface StepFactors {
  /** The clip factor. */
  readonly clip: Tensor;
  /** The factor of the gradient in the first moment: (1 - beta1) * clip. */
  readonly gradient: Tensor;
  /** The same for the squared gradient: (1 - beta2) * clip^2. */
  readonly squared: Tensor;
  /** Those of `stepScalars`. */
  readonly stepSize: Tensor;
  readonly epsilon: Tensor;
  readonly kept: Tensor;
  readonly learningRate: Tensor;
  readonly averaged: Tensor;
}

/** The factors of a step from its numbers [STEP_SCALARS] and the clip factor. */
export function stepFactors(config: AdamWConfig, numbers: Tensor, clip: Tensor): StepFactors {
  const parts = split(numbers, 0, new Array<number>(STEP_SCALARS).fill(1));
  const [stepSize, epsilon, kept, learningRate, averaged] = parts as [Tensor, Tensor, Tensor, Tensor, Tensor];
  return {
    clip,
    gradient: multiply(clip, 1 - config.beta1),
    squared: multiply(multiply(clip, clip), 1 - config.beta2),
    stepSize,
    epsilon,
    kept,
    learningRate,
    averaged,
  };
}

/** The factors of a parameter whose learning rate is `rate` times that of the others. */
export function scaled(factors: StepFactors, rate: number): StepFactors {
  if (rate === 1) return factors;
  const { stepSize, kept, learningRate } = factors;
  // kept = 1 - learning rate * weight decay.
  return {
    ...factors,
    stepSize: multiply(stepSize, rate),
    kept: subtract(1, multiply(subtract(1, kept), rate)),
    learningRate: multiply(learningRate, rate),
  };
}

/** One step of a parameter: its new value and moments, from the unclipped gradient. */
export function adamW(
  config: AdamWConfig,
  parameter: Tensor,
  gradient: Tensor,
  moments: Moments,
  factors: StepFactors,
  decay: boolean,
): { parameter: Tensor; moments: Moments } {
  const g = wide(gradient);
  // The clip factor is folded into the update of the moments, which saves a pass over every parameter.
  const first = add(multiply(moments.first, config.beta1), multiply(g, factors.gradient));
  const squares = multiply(multiply(g, g), factors.squared);
  const second = add(multiply(moments.second, config.beta2), squares);
  const update = multiply(divide(first, add(sqrt(second), factors.epsilon)), factors.stepSize);
  const shrunk = decay ? multiply(parameter, factors.kept) : parameter;
  return { parameter: subtract(shrunk, update), moments: { first, second } };
}

/** The average of a parameter's values over steps, with the value of one step more. */
export function averagedWith(average: Tensor, value: Tensor, { averaged }: StepFactors): Tensor {
  return add(average, multiply(subtract(value, average), averaged));
}
