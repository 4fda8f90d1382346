/**
 * Parameters, declared where they are used: a layer asks its scope for a tensor by name, shape and initialiser, and the
 * registry behind it collects what the model consists of. Names are those of the checkpoint.
 */
import { ConfigError } from '../errors.js';
import { input, sameShape, scope, type Tensor } from '../graph/index.js';
import type { Random } from './random.js';

/** Fills a new parameter. */
export type Initializer = (random: Random, shape: readonly number[]) => Float32Array;

export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initialize: Initializer;
  /** Whether weight decay applies: to matrices, not to norms, biases and what sets a state's time scale. */
  readonly decay: boolean;
}

export interface ParameterOptions {
  decay?: boolean;
}

/** All parameters of a model, in the order in which its layers asked for them. */
export class ParameterRegistry {
  readonly specs = new Map<string, ParameterSpec>();
  readonly tensors = new Map<string, Tensor>();

  root(): Parameters {
    return new Parameters(this, '');
  }
}

/** A place in the tree of names. */
export class Parameters {
  constructor(
    private readonly registry: ParameterRegistry,
    private readonly prefix: string,
  ) {}

  /** Runs `build` one level down; shape errors inside name the path. */
  within<T>(name: string, build: (parameters: Parameters) => T): T {
    return scope(name, () => build(new Parameters(this.registry, `${this.prefix}${name}.`)));
  }

  /** The parameter `name` here; asked for again it is the same tensor, so that layers can share it. */
  get(
    name: string,
    shape: readonly number[],
    initialize: Initializer,
    options: ParameterOptions = {},
  ): Tensor {
    const full = this.prefix + name;
    const known = this.registry.tensors.get(full);
    if (known) {
      if (!sameShape(known.shape, shape)) {
        throw new ConfigError(`the parameter ${full} is used as [${shape}] and as [${known.shape}]`);
      }
      return known;
    }
    const tensor = input(full, 'float32', shape);
    this.registry.specs.set(full, {
      name: full,
      shape,
      initialize,
      decay: options.decay ?? shape.length >= 2,
    });
    this.registry.tensors.set(full, tensor);
    return tensor;
  }
}

/** Normal with mean 0. */
export function normal(standardDeviation: number): Initializer {
  return (random, shape) => fillWith(shape, () => standardDeviation * random.normal());
}

/** Uniform in [-bound, bound). */
export function uniform(bound: number): Initializer {
  return (random, shape) => fillWith(shape, () => bound * (2 * random.uniform() - 1));
}

/** Every element the same. */
export function constantly(value: number): Initializer {
  return (_, shape) => fillWith(shape, () => value);
}

export function fillWith(shape: readonly number[], next: () => number): Float32Array {
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, next);
}
