/**
 * Parameters are declared where they are used: a layer requests a tensor from its scope by name, shape and initialiser, and a registry collects
 * all parameters of the model. Names are those of the checkpoint.
 */
import { ConfigError } from '../errors.js';
import { input, sameShape, scope, type Tensor } from '../graph/index.js';
import type { Random } from './random.js';

/** An initialiser of a parameter. */
export type Initializer = (random: Random, shape: readonly number[]) => Float32Array;

/** The declaration of a parameter. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initialize: Initializer;
  /** Whether weight decay applies: to matrices, not to norms, biases and time-scale parameters. */
  readonly decay: boolean;
  /** Whether it is a matrix of a linear map, or several of them [count, rows, columns]; by default if it has two dimensions. */
  readonly isMatrix?: boolean;
  /** A small but sensitive parameter, which is not quantized. */
  readonly precise?: boolean;
  /** Parts in which checkpoints may store it, whose concatenation is the parameter. */
  readonly parts?: readonly ParameterPart[];
  /** For parameters of adapters: the name of the adapted weight. */
  readonly adapts?: string;
  /** A statistic of batches (`Parameters.statistic`), without a gradient. */
  readonly isStatistic?: boolean;
}

/** A tensor of a checkpoint that holds a part of a parameter. */
export interface ParameterPart {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Further options of a parameter. */
export interface ParameterOptions {
  decay?: boolean;
  isMatrix?: boolean;
  precise?: boolean;
  /** With names in this scope. */
  parts?: readonly ParameterPart[];
}

/** An adapter of a linear layer: scale * B A is added to its weight, with A [rank, inputs] and B [outputs, rank]. */
export interface LowRank {
  readonly rank: number;
  readonly scale: number;
  /** Factors of the rows of the sum, as in DoRA (Liu et al., 2024, arXiv 2402.09353). */
  readonly hasFactors?: boolean;
}

/** Returns the adapter of the linear layer at a path, if it has one. */
export type Adapters = (module: string) => LowRank | undefined;

/** The registry of all parameters of a model, in order of their declaration. */
export class ParameterRegistry {
  readonly specs = new Map<string, ParameterSpec>();
  readonly tensors = new Map<string, Tensor>();
  /** Auxiliary losses of layers. */
  readonly penalties: Tensor[] = [];
  /** New values of statistics, by name, as computed by layers. */
  readonly renewed = new Map<string, Tensor>();

  /** `renews` are the names of statistics that are updated, in training. */
  constructor(
    private readonly renews: ReadonlySet<string> = new Set(),
    /** A prefix of input names, for two models in one graph. */
    private readonly prefix = '',
  ) {}

  isRenewed(name: string): boolean {
    return this.renews.has(name);
  }

  /** The parameter of this spec; repeated requests return the same tensor, so that layers can share it. */
  tensor(spec: ParameterSpec): Tensor {
    const { name, shape } = spec;
    const known = this.tensors.get(name);
    if (known) {
      if (!sameShape(known.shape, shape)) {
        throw new ConfigError(`the parameter ${name} is used as [${shape}] and as [${known.shape}]`);
      }
      return known;
    }
    const tensor = input(this.prefix + name, 'float32', shape);
    this.specs.set(name, spec);
    this.tensors.set(name, tensor);
    return tensor;
  }

  /** The root scope; linear layers in it have the given adapters. */
  root(adapters?: Adapters): Parameters {
    return new Parameters(this, '', '', adapters);
  }
}

/** A scope in the tree of names. */
export class Parameters {
  /** `own` differs from `prefix` if parameters are shared with another layer, since adapters are never shared. */
  constructor(
    private readonly registry: ParameterRegistry,
    private readonly prefix: string,
    private readonly own: string,
    private readonly adapters: Adapters | undefined,
  ) {}

  /** Runs `build` in a nested scope; shape errors inside contain the path. */
  within<T>(name: string, build: (parameters: Parameters) => T): T {
    return this.below(name, `${this.prefix}${name}.`, `${this.own}${name}.`, build);
  }

  /** The scope at `path` from the root, for using another layer's parameters. */
  at<T>(path: string, build: (parameters: Parameters) => T): T {
    const name = path.slice(path.lastIndexOf('.') + 1);
    return this.below(path, `${path}.`, this.prefix === '' ? `${path}.` : `${this.own}${name}.`, build);
  }

  private below<T>(step: string, prefix: string, own: string, build: (parameters: Parameters) => T): T {
    return scope(step, () => build(new Parameters(this.registry, prefix, own, this.adapters)));
  }

  /** Adds an auxiliary loss, a float32 scalar. */
  penalize(penalty: Tensor): void {
    this.registry.penalties.push(penalty);
  }

  /**
   * A running statistic, such as a mean. In training, the layer uses the statistics of the batch and passes the new running value to `renew`; in
   * inference there is no `renew`, and the layer uses `value`.
   */
  statistic(
    name: string,
    shape: readonly number[],
    initial: number,
  ): { readonly value: Tensor; readonly renew: ((next: Tensor) => void) | undefined } {
    const full = this.prefix + name;
    const value = this.registry.tensor({
      name: full,
      shape,
      initialize: constantly(initial),
      decay: false,
      isStatistic: true,
    });
    const renew = (next: Tensor): void => void this.registry.renewed.set(full, next);
    return { value, renew: this.registry.isRenewed(full) ? renew : undefined };
  }

  /** The parameter `name` in this scope; repeated requests return the same tensor. */
  get(
    name: string,
    shape: readonly number[],
    initialize: Initializer,
    options: ParameterOptions = {},
  ): Tensor {
    const parts = options.parts?.map((part) => ({ ...part, name: this.prefix + part.name }));
    return this.registry.tensor({
      name: this.prefix + name,
      shape,
      initialize,
      decay: options.decay ?? shape.length >= 2,
      ...(options.isMatrix !== undefined && { isMatrix: options.isMatrix }),
      ...(options.precise && { precise: true }),
      ...(parts && { parts }),
    });
  }

  /**
   * The adapter of this scope's linear layer, if it has one, with PEFT's names and initialisation: B is zero, so that a new adapter changes
   * nothing. It has no weight decay.
   */
  adapter(
    inputs: number,
    outputs: number,
  ): { A: Tensor; B: Tensor; scale: number; factors: Tensor | undefined } | undefined {
    const found = this.adapters?.(this.own.slice(0, -1));
    if (!found) return undefined;
    const part = (name: string, shape: readonly number[], initialize: Initializer): Tensor =>
      this.registry.tensor({
        name: `${this.own}${name}`,
        shape,
        initialize,
        decay: false,
        adapts: `${this.prefix}weight`,
      });
    return {
      A: part('lora_A.weight', [found.rank, inputs], uniform(1 / Math.sqrt(inputs))),
      B: part('lora_B.weight', [outputs, found.rank], constantly(0)),
      scale: found.scale,
      factors: found.hasFactors ? part('lora_factors', [outputs], constantly(1)) : undefined,
    };
  }
}

/** Normal with mean 0. */
export function normal(standardDeviation: number): Initializer {
  return (random, shape) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    random.fillNormal(values, standardDeviation);
    return values;
  };
}

/** Uniform in [-bound, bound). */
export function uniform(bound: number): Initializer {
  return (random, shape) => fillWith(shape, () => bound * (2 * random.uniform() - 1));
}

/** Every element the same. */
export function constantly(value: number): Initializer {
  return (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value);
}

/** An array of this shape with elements drawn in order. */
export function fillWith(shape: readonly number[], next: () => number): Float32Array {
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, next);
}
