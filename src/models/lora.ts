/**
 * LoRA (Hu et al., 2021, arXiv 2106.09685): the weights of a model are frozen, and each linear layer gets a trainable change of low rank,
 * scale * B A. The embedding, the head, routers and the experts' matrices have no adapters.
 */
import type { HostTensor } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { type Model, parametersOf } from './model.js';

/** The config of low-rank adapters. */
export interface LoraConfig {
  /** Rows of A and columns of B. */
  readonly rank: number;
  /** The change is multiplied by alpha / rank. */
  readonly alpha: number;
}

/** A model whose linear layers have adapters. */
export interface Adapted {
  readonly model: Model;
  /** By name: those of the adapters, and parameters of the model that the adapter replaces. */
  readonly weights: ReadonlyMap<string, HostTensor>;
}

/** A linear layer that can have an adapter. */
export interface LinearLayer {
  /** Its path in the tree of names. */
  readonly module: string;
  /** The name of its weight, which other layers may share. */
  readonly weight: string;
  readonly inputs: number;
  readonly outputs: number;
}

const A = '.lora_A.weight';
const B = '.lora_B.weight';
const FACTORS = '.lora_factors';

/** The names of an adapter's parameters: A, B, and the row factors of DoRA. */
export function adapterNames(module: string): { a: string; b: string; factors: string } {
  return { a: module + A, b: module + B, factors: module + FACTORS };
}

/**
 * The output projection of a Mamba layer. PEFT refuses adapters on it in several Mamba families, since transformers passes that weight to a
 * fused kernel.
 */
const FUSED_OUTPUT = /\.(?:mamba|mixer)\.out_proj$/;

/**
 * The model with an adapter on every linear layer in its layers, except those that PEFT could not load. Throws `ConfigError` for an invalid
 * rank or alpha.
 */
export function withLora(model: Model, { rank, alpha }: LoraConfig): Model {
  if (!(Number.isSafeInteger(rank) && rank >= 1)) {
    throw new ConfigError(`the rank of the adapters is ${rank}: expected a whole number, 1 or more`);
  }
  if (!(alpha > 0 && Number.isFinite(alpha))) {
    throw new ConfigError(`alpha of the adapters is ${alpha}: expected more than 0`);
  }
  const one = { rank, scale: alpha / rank };
  return { ...model, adapters: (module) => (FUSED_OUTPUT.test(module) ? undefined : one) };
}

/** All linear layers that can have adapters, in order. */
export function linearLayers(model: Model): LinearLayer[] {
  const specs = parametersOf({ ...model, adapters: () => ({ rank: 1, scale: 1 }) });
  const shapes = new Map(specs.map(({ name, shape }) => [name, shape]));
  return specs.flatMap(({ name, shape, adapts }) => {
    if (adapts === undefined || !name.endsWith(A)) return [];
    const module = name.slice(0, -A.length);
    return [{ module, weight: adapts, inputs: shape[1]!, outputs: shapes.get(module + B)![0]! }];
  });
}

/** The parameters of a model that an adapter replaces, by name. */
function replacedWeights({ model, weights }: Adapted): Map<string, HostTensor> {
  const own = new Set(parametersOf({ ...model, adapters: () => undefined }).map(({ name }) => name));
  return new Map([...weights].filter(([name]) => own.has(name)));
}

/**
 * Merges adapters into the weights: W + scale B A, rounded once, with rows multiplied by their factors. Weights without an adapter are
 * unchanged, or replaced if the adapter replaces them. Throws `ConfigError` for layers that share a weight but have different adapters.
 */
export function mergeAdapter(
  weights: ReadonlyMap<string, HostTensor>,
  adapted: Adapted,
): Map<string, HostTensor> {
  const { model, weights: parts } = adapted;
  const merged = new Map([...weights, ...replacedWeights(adapted)]);
  for (const { module, weight } of linearLayers(model)) {
    const adapter = model.adapters?.(module);
    if (!adapter) continue;
    const old = weights.get(weight)!;
    if (merged.get(weight) !== old) {
      throw new ConfigError(
        `the adapter of ${module} cannot be merged: another layer has the same weight, but an adapter of its own. Use the adapter beside the model instead.`,
      );
    }
    const { a, b, factors } = adapterNames(module);
    const sum = plusProduct(old, parts.get(b)!, parts.get(a)!, adapter.scale);
    merged.set(weight, adapter.hasFactors ? scaledRows(sum, parts.get(factors)!) : sum);
  }
  return merged;
}

/** W [rows, columns] with each row multiplied by its factor. */
function scaledRows({ dims, ...w }: HostTensor, factors: HostTensor): HostTensor {
  const columns = dims[1]!;
  const data = (w.data as Float32Array).map(
    (value, i) => value * (factors.data as Float32Array)[Math.floor(i / columns)]!,
  );
  return { ...w, dims, data };
}

/** W [outputs, inputs] + scale B A, with A [rank, inputs] and B [outputs, rank]; sums in float64, rounded once. */
export function plusProduct(w: HostTensor, b: HostTensor, a: HostTensor, scale: number): HostTensor {
  const [rank, inputs] = a.dims as [number, number];
  const [left, right] = [b.data as Float32Array, a.data as Float32Array];
  const data = Float32Array.from(w.data as Float32Array);
  const row = new Float64Array(inputs);
  for (let output = 0; output < b.dims[0]!; output++) {
    row.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = scale * left[output * rank + r]!;
      for (let i = 0; i < inputs; i++) row[i]! += factor * right[r * inputs + i]!;
    }
    for (let i = 0; i < inputs; i++) data[output * inputs + i]! += row[i]!;
  }
  return { ...w, data };
}
