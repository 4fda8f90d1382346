/** The definition of a family of checkpoints, and the parts of configs that families share. Keys are Hugging Face's. */
import { z } from 'zod';
import { quote } from '../../checkpoint/index.js';
import { ConfigError } from '../../errors.js';
import { gelu, geluTanh, relu, relu2, silu } from '../../graph/index.js';
import { type Activation, chain, INITIAL_DEVIATION, type Mixer, type RopeConfig } from '../../nn/index.js';
import { IN_WORDS, problemsIn } from '../../schema-issues.js';
import type { Layer, Model } from '../model.js';
import { ropeFrom } from './rope-scaling.js';

/** Builds models from the `config.json` of one kind of checkpoint. */
export interface Family {
  /** The values of `model_type`. */
  readonly modelTypes: readonly string[];
  /** The class that `architectures` must name, if other classes have the same `model_type`. */
  readonly architecture?: string;
  /** Whether a config without a `model_type` belongs to the family. */
  recognizes?(json: Readonly<Record<string, unknown>>): boolean;
  /** The model of a config.json. Throws `ConfigError`, with `path`, for values that the family does not allow. */
  read(json: Readonly<Record<string, unknown>>, path: string): Model;
}

/** Defines a family by the schema of its config and a function from a config to a model. */
export function defineFamily<Schema extends z.ZodType>(
  modelTypes: readonly string[],
  schema: Schema,
  build: (config: z.output<Schema>, json: Readonly<Record<string, unknown>>) => Model,
): Family {
  return {
    modelTypes,
    read(json, path) {
      const result = parseGenerously(schema, json);
      if (!result.success) {
        throw new ConfigError(`${path} is not a ${modelTypes[0]}: ${problemsIn(result.error)}`);
      }
      try {
        return build(result.data, json);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        throw new ConfigError(`${path}: ${error.message}`, { cause: error });
      }
    },
  };
}

/** Parses a config. A null that the schema does not allow counts as absent, since some programs write null for a default. */
function parseGenerously<Schema extends z.ZodType>(schema: Schema, json: Readonly<Record<string, unknown>>) {
  const result = schema.safeParse(json, IN_WORDS);
  if (result.success) return result;
  const refused = result.error.issues.map(({ path }) => path).filter((path) => valueAt(json, path) === null);
  if (refused.length === 0) return result;
  return schema.safeParse(
    refused.reduce<unknown>((config, path) => without(config, path), json),
    IN_WORDS,
  );
}

type Path = readonly PropertyKey[];

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (inner, key) => (inner as Record<PropertyKey, unknown> | undefined)?.[key],
    value,
  );
}

/** A copy of nested objects and lists without the value at a path; entries of lists are kept. */
function without(value: unknown, [key, ...rest]: Path): unknown {
  if (typeof value !== 'object' || value === null || key === undefined) return value;
  if (Array.isArray(value)) {
    return rest.length === 0 ? value : value.map((entry, i) => (i === key ? without(entry, rest) : entry));
  }
  const entries = Object.entries(value);
  return Object.fromEntries(
    rest.length === 0
      ? entries.filter(([name]) => name !== key)
      : entries.map(([name, entry]) => [name, name === key ? without(entry, rest) : entry]),
  );
}

/** Throws `ConfigError` unless it holds. */
export function expectConfig(holds: boolean, problem: string): void {
  if (!holds) throw new ConfigError(problem);
}

/** Upper bounds far above any real model, so that a damaged config does not exhaust memory. */
const LARGEST = 2 ** 20;
const LARGEST_HEAD = 2 ** 16;
const MOST_EXPERTS = 100_000;

/** A width, or another size of an axis. */
export const size = z.number().int().positive().max(LARGEST);
/** In tokens. */
export const length = z
  .number()
  .int()
  .positive()
  .max(2 ** 31);
/** The number of layers. */
export const layerCount = z.number().int().positive().max(1000);
/** The number of heads. */
export const headCount = z.number().int().positive().max(LARGEST_HEAD);
/** The width of a head. */
export const headSize = z.number().int().positive().max(LARGEST_HEAD);
/** A multiplier, which may be negative. */
export const factor = z.number();
/** The epsilon of a norm. */
export const epsilon = z.number().positive();
/** A token's id. */
const token = z.number().int().nonnegative();

const tokens = z
  .union([token, z.array(token)])
  .nullish()
  .transform((ids) => (ids == null ? [] : Array.isArray(ids) ? ids : [ids]));

/** The end-of-text tokens, for families with a default; null means that there is none. */
export function eosTokens(otherwise: number) {
  return tokens.prefault(otherwise);
}

/** The limits [low, high] of a time step; high may be infinite. */
export const timeStepLimit = z
  .tuple([z.number(), z.number().or(z.literal(Number.POSITIVE_INFINITY)).or(z.null())])
  .nullish()
  .transform((limit): readonly [number, number] => [limit?.[0] ?? 0, limit?.[1] ?? Number.POSITIVE_INFINITY])
  .refine(([low, high]) => low < high, 'must be a lower and a higher bound');

/** A size that is derived if the config has none: absent, null or "auto". */
export const derived = size.or(z.literal('auto')).nullish();

/** The size in the config, or the derived one. */
export function orElse(value: number | 'auto' | null | undefined, otherwise: number): number {
  return typeof value === 'number' ? value : otherwise;
}

/** A computed size; `text` is its formula. Throws `ConfigError` for an impossible size. */
export function computedSize(value: number, text: string): number {
  expectConfig(
    Number.isInteger(value) && value >= 1 && value <= LARGEST,
    `${text} make a size of ${value}: it must be a whole number from 1 to ${LARGEST}`,
  );
  return value;
}

/** The inner width of a state-space mixer: `expand` times the hidden size, with the names of their keys. */
export function innerWidth(expand: number, hiddenSize: number, key = 'expand'): number {
  return computedSize(
    Math.trunc(expand * hiddenSize),
    `${key} (${expand}) times hidden_size (${hiddenSize})`,
  );
}

/** The head size: `width` divided by `count` heads, with the names of their keys. */
export function headSizeOf([widthKey, width]: Named, [countKey, count]: Named): number {
  const each = width / count;
  expectConfig(
    Number.isInteger(each) && each <= LARGEST_HEAD,
    `${widthKey} (${width}) must be a multiple of ${countKey} (${count}), with at most ${LARGEST_HEAD} for each`,
  );
  return each;
}

type Named = readonly [key: string, value: number];

/** The keys that every config has. */
export const common = {
  vocab_size: z
    .number()
    .int()
    .positive()
    .max(2 ** 24),
  hidden_size: size,
  max_position_embeddings: length.nullish(),
  eos_token_id: tokens,
};

interface Common {
  vocab_size: number;
  hidden_size: number;
  max_position_embeddings?: number | null | undefined;
  eos_token_id: number[];
}

/** The part of these keys that `defineModel` needs. */
export function commonParts(config: Common, json: Readonly<Record<string, unknown>>) {
  return {
    modelType: String(json.model_type),
    json,
    vocabSize: config.vocab_size,
    hiddenSize: config.hidden_size,
    maxPositionEmbeddings: config.max_position_embeddings ?? undefined,
    eosTokenIds: config.eos_token_id,
  };
}

/** Parameter names of newer families: all under `model`. */
export function llamaNames(finalNorm: string) {
  return {
    embeddings: 'model.embed_tokens',
    layers: 'model.layers',
    finalNorm: `model.${finalNorm}`,
    head: 'lm_head',
  };
}

/** Parameter names of the first state-space families. */
export const MAMBA_NAMES = {
  embeddings: 'backbone.embeddings',
  layers: 'backbone.layers',
  finalNorm: 'backbone.norm_f',
  head: 'lm_head',
};

/** Names of the experts' matrices in files that store each expert separately. */
export const SWIGLU_EXPERTS = swigluExperts('gate_proj', 'up_proj', 'down_proj');
/** The same in Mixtral's naming, with numbered matrices. */
export const NUMBERED_EXPERTS = swigluExperts('w1', 'w3', 'w2');

function swigluExperts(gate: string, value: string, output: string) {
  return {
    input: 'experts.gate_up_proj',
    output: 'experts.down_proj',
    expert: (index: number) => ({
      inputs: [`experts.${index}.${gate}.weight`, `experts.${index}.${value}.weight`],
      output: `experts.${index}.${output}.weight`,
    }),
  };
}

/** The initialization of weights at the end of a residual branch. */
export function outputDeviation(branches: number): number {
  return INITIAL_DEVIATION / Math.sqrt(branches);
}

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu,
  swish: silu,
  gelu,
  gelu_pytorch_tanh: geluTanh,
  gelu_new: geluTanh,
  relu,
  relu2,
  sqrelu: relu2,
};

/** An activation by any of its names in transformers. */
export const activation = z.string().transform((name, context): Activation => {
  const found = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (found) return found;
  context.addIssue(
    `${quote(name)} is not an activation that is known: ${Object.keys(ACTIVATIONS).join(', ')}`,
  );
  return z.NEVER;
});

/** The activation of mixers with a convolution, which is fused with it; also that of MLPs without a key of their own. */
export const siluOnly = z.enum(['silu', 'swish']).default('silu');

/** The keys of rotary positions in transformers' older and newer format; `ropeFrom` reads them. */
export const ropeKeys = {
  rope_parameters: z.looseObject({}).nullish(),
  rope_scaling: z.looseObject({}).nullish(),
  rope_theta: z.number().gt(1).nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
};

interface RopeKeys {
  rope_parameters?: Readonly<Record<string, unknown>> | null | undefined;
  rope_scaling?: Readonly<Record<string, unknown>> | null | undefined;
  rope_theta?: number | null | undefined;
  partial_rotary_factor?: number | null | undefined;
  max_position_embeddings?: number | null | undefined;
}

/** The rotary positions of a config, in either format. */
export function ropeOf(
  config: RopeKeys,
  headDim: number,
  defaults: { theta?: number; partial?: number } = {},
): RopeConfig {
  const given = { ...config.rope_scaling, ...config.rope_parameters };
  return ropeFrom(
    {
      ...given,
      rope_type: given.rope_type ?? given.type ?? 'default',
      rope_theta: given.rope_theta ?? config.rope_theta ?? defaults.theta ?? 10_000,
      partial_rotary_factor:
        given.partial_rotary_factor ?? config.partial_rotary_factor ?? defaults.partial ?? 1,
    },
    headDim,
    config.max_position_embeddings ?? undefined,
  );
}

/** Composes layers sequentially. */
export function layer(letters: string, ...mixers: readonly Mixer[]): Layer {
  return { letters, mixer: chain(...mixers) };
}

/** The kinds of layers in newer and older configs; `kinds` computes them for configs without the key. */
export function layerKinds<Kind extends string>(
  written: readonly string[] | null | undefined,
  count: number,
  known: Readonly<Record<string, Kind>>,
  otherwise: (index: number) => Kind,
  key = 'layer_types',
): Kind[] {
  if (!written) return Array.from({ length: count }, (_, i) => otherwise(i));
  expectConfig(
    written.length === count,
    `${key} has ${written.length} entries, but num_hidden_layers is ${count}`,
  );
  return written.map((name) => {
    expectConfig(
      Object.hasOwn(known, name),
      `${key} has ${quote(name)}; known are ${Object.keys(known).join(', ')}`,
    );
    return known[name]!;
  });
}

/** Throws `ConfigError` unless the number of value heads of a delta net is a multiple of its key heads. */
export function expectSharedHeads(numValueHeads: number, numKeyHeads: number): void {
  expectConfig(
    numValueHeads % numKeyHeads === 0,
    `linear_num_value_heads (${numValueHeads}) must be a multiple of linear_num_key_heads (${numKeyHeads})`,
  );
}

/** Throws `ConfigError` if a token uses more experts than there are; `key` is the key of their number. */
export function expectExperts(count: number, perToken: number, layers: number, key: string): void {
  expectConfig(
    perToken >= 1 && perToken <= count,
    `num_experts_per_tok (${perToken}) must be 1 to ${key} (${count})`,
  );
  expectConfig(
    count * layers <= MOST_EXPERTS,
    `${key} (${count}) in each of ${layers} layers are more than ${MOST_EXPERTS} experts`,
  );
}

/** The key `layer_types`, which `layerKinds` reads. */
export const layerTypes = z.array(z.string()).nullish();

/** transformers' older and newer names of the two kinds of mixers. */
export const MAMBA_OR_ATTENTION = {
  mamba: 'mamba',
  linear_attention: 'mamba',
  attention: 'attention',
  full_attention: 'attention',
} as const;
/** The kinds of layers in hybrids of linear recurrence and attention. */
export const LINEAR_OR_FULL = { linear_attention: 'linear', full_attention: 'full' } as const;
