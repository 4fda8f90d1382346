/**
 * Parameters, declared where they are used: a layer asks its scope for a tensor by name, shape and initialiser, and the
 * registry behind it collects what the model consists of. Names are those of the checkpoint.
 */
import { ConfigError } from '../errors.js';
import { input, sameShape, scope, type Tensor } from '../graph/index.js';
import type { Random } from './random.js';

/** Fills a new parameter. */
export type Initializer = (random: Random, shape: readonly number[]) => Float32Array;

/** A parameter as a model declares it. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initialize: Initializer;
  /** Whether weight decay applies: to matrices, not to norms, biases and what sets a state's time scale. */
  readonly decay: boolean;
  /** Whether it is a matrix that maps vectors to vectors, or several of them [count, rows, columns]: by default what has two dimensions is. */
  readonly isMatrix?: boolean;
  /** Decides much with few numbers: it is not quantized. */
  readonly precise?: boolean;
  /** Checkpoints may store it in these parts, whose elements one after the other are its own. */
  readonly parts?: readonly ParameterPart[];
  /** It is half of an adapter: the name of the weight that this changes. */
  readonly adapts?: string;
  /** Training makes it from what it sees in batches (`Parameters.statistic`): it has no gradient. */
  readonly isStatistic?: boolean;
}

/** A tensor of a checkpoint that holds a part of a parameter. */
export interface ParameterPart {
  readonly name: string;
  readonly shape: readonly number[];
}

/** What is said of a parameter beside its name, shape and initial value. */
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
  /** Each row of the sum is then multiplied by a factor of its own, as DoRA (Liu et al., 2024, arXiv 2402.09353) does. */
  readonly hasFactors?: boolean;
}

/** The adapter of the linear layer at a place in the tree of names, if it has one. */
export type Adapters = (module: string) => LowRank | undefined;

/** All parameters of a model, in the order in which its layers asked for them. */
export class ParameterRegistry {
  readonly specs = new Map<string, ParameterSpec>();
  readonly tensors = new Map<string, Tensor>();
  /** Scalars that training adds to the loss: what layers want beside being right. */
  readonly penalties: Tensor[] = [];
  /** New values of statistics, by name, once layers have made them. */
  readonly renewed = new Map<string, Tensor>();

  /** `renews` are the names of the statistics that are made anew: those of a model in training. The others are read as they are. */
  constructor(
    private readonly renews: ReadonlySet<string> = new Set(),
    /** Stands before the names of the inputs, where two models are in one graph. */
    private readonly prefix = '',
  ) {}

  isRenewed(name: string): boolean {
    return this.renews.has(name);
  }

  /** The parameter of this spec; asked for again it is the same tensor, so that layers can share it. */
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

  /** The top of the tree; below it linear layers have the given adapters. */
  root(adapters?: Adapters): Parameters {
    return new Parameters(this, '', '', adapters);
  }
}

/** A place in the tree of names. */
export class Parameters {
  /** `own` differs from `prefix` where the parameters are another layer's: adapters are never shared. */
  constructor(
    private readonly registry: ParameterRegistry,
    private readonly prefix: string,
    private readonly own: string,
    private readonly adapters: Adapters | undefined,
  ) {}

  /** Runs `build` one level down; shape errors inside name the path. */
  within<T>(name: string, build: (parameters: Parameters) => T): T {
    return this.below(name, `${this.prefix}${name}.`, `${this.own}${name}.`, build);
  }

  /** The place `path` from the root of the tree: a layer uses another's parameters there. */
  at<T>(path: string, build: (parameters: Parameters) => T): T {
    const name = path.slice(path.lastIndexOf('.') + 1);
    return this.below(path, `${path}.`, this.prefix === '' ? `${path}.` : `${this.own}${name}.`, build);
  }

  private below<T>(step: string, prefix: string, own: string, build: (parameters: Parameters) => T): T {
    return scope(step, () => build(new Parameters(this.registry, prefix, own, this.adapters)));
  }

  /** Adds a float32 scalar to the loss of whoever trains. */
  penalize(penalty: Tensor): void {
    this.registry.penalties.push(penalty);
  }

  /**
   * A running statistic of what a layer sees, such as a mean. In training `renew` takes its next value, and the layer goes by the
   * batch itself; elsewhere there is no `renew`, and it goes by `value`.
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

  /** The parameter `name` here; asked for again it is the same tensor, so that layers can share it. */
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
   * The adapter of the linear layer here, if it has one, as PEFT names and initialises it: B is zero, so that a new one
   * changes nothing. It does not decay.
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

/** An array for this shape, whose elements are drawn one after the other. */
export function fillWith(shape: readonly number[], next: () => number): Float32Array {
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, next);
}
