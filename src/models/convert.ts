/**
 * Converts a transformer to a hybrid: some of its attention layers are replaced by layers of other kinds, which inherit the projections that
 * fit (Wang et al., 2024, "The Mamba in the Llama", arXiv 2408.15237): queries, keys and values initialize those of a linear recurrence, and
 * the output projection is kept. Everything else is copied. The lost quality is then recovered by training, best by distillation from the
 * transformer itself (`train --teacher`).
 *
 * Short convolutions are initialized as the identity, and keys and values that heads share are repeated for each head.
 */
import { z } from 'zod';
import { float32, type HostTensor, joinedArrays } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { Random } from '../nn/index.js';
import { IN_WORDS, problemsIn } from '../schema-issues.js';
import { type ModelConfig, type ModelConfigInput, modelConfig, parseConfig } from './config.js';
import { hybridModel } from './hybrid.js';
import { type Model, parametersOf } from './model.js';
import { type PatternLayer, parsePattern } from './pattern.js';

/** A converted hybrid: its model, its weights, and which of them are new. */
export interface Conversion {
  readonly model: Model;
  readonly weights: Map<string, HostTensor>;
  /** Parameters that are partly or wholly new. */
  readonly fresh: readonly string[];
}

/** A branch of the residual stream: the prefixes of its parameters' names. */
interface Branch {
  readonly kind: 'attention' | 'mlp';
  readonly norm: string;
  readonly at: string;
}

interface Source {
  readonly config: ModelConfigInput;
  readonly branches: readonly Branch[];
}

const llamaSchema = z.looseObject({
  vocab_size: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number().nullish(),
  head_dim: z.number().nullish(),
  hidden_act: z.literal('silu').default('silu'),
  rms_norm_eps: z.number().default(1e-6),
  max_position_embeddings: z.number().default(2048),
  tie_word_embeddings: z.boolean().default(false),
  rope_theta: z.number().optional(),
  rope_scaling: z.null().optional(),
  rope_parameters: z
    .looseObject({ rope_theta: z.number().optional(), rope_type: z.literal('default').optional() })
    .nullish(),
  bos_token_id: z.number().nullish(),
  eos_token_id: z.union([z.number(), z.array(z.number()).transform((ids) => ids[0])]).nullish(),
});

/** Throws `ConfigError` for a model that is not a plain transformer. */
function sourceOf(model: Model): Source {
  const { modelType, json, names } = model;
  if (modelType === 'heddle') {
    const config = parseConfig(json, 'the config');
    const branches = parsePattern(config.pattern).map((layer, i): Branch => {
      const [letter] = layer.letters;
      if (layer.letters.length > 1 || layer.shares !== undefined || !(letter === '*' || letter === '-'))
        throw notPlain(model);
      const at = `${names.layers}.${i}`;
      return { kind: letter === '*' ? 'attention' : 'mlp', norm: `${at}.norm`, at: `${at}.mixer` };
    });
    return { config, branches };
  }
  if (modelType !== 'llama') throw notPlain(model);
  const parsed = llamaSchema.safeParse(json, IN_WORDS);
  if (!parsed.success) {
    throw new ConfigError(`this transformer has what a model of ours does not: ${problemsIn(parsed.error)}`);
  }
  const c = parsed.data;
  const headDim = c.head_dim ?? c.hidden_size / c.num_attention_heads;
  return {
    config: {
      modelType: 'heddle',
      architectures: ['HeddleForCausalLM'],
      vocabSize: c.vocab_size,
      hiddenSize: c.hidden_size,
      pattern: '*',
      intermediateSize: c.intermediate_size,
      normEpsilon: c.rms_norm_eps,
      tieWordEmbeddings: c.tie_word_embeddings,
      maxPositionEmbeddings: c.max_position_embeddings,
      numAttentionHeads: c.num_attention_heads,
      numKeyValueHeads: c.num_key_value_heads ?? c.num_attention_heads,
      headDim,
      ropeTheta: c.rope_parameters?.rope_theta ?? c.rope_theta ?? 10_000,
      ...(typeof c.bos_token_id === 'number' && { bosTokenId: c.bos_token_id }),
      ...(typeof c.eos_token_id === 'number' && { eosTokenId: c.eos_token_id }),
    },
    branches: Array.from({ length: c.num_hidden_layers }, (_, i): Branch[] => {
      const at = `${names.layers}.${i}`;
      return [
        { kind: 'attention', norm: `${at}.input_layernorm`, at: `${at}.self_attn` },
        { kind: 'mlp', norm: `${at}.post_attention_layernorm`, at: `${at}.mlp` },
      ];
    }).flat(),
  };
}

function notPlain({ modelType, pattern }: Model): ConfigError {
  return new ConfigError(
    `what is converted is a plain transformer, of the family llama or of our own with the letters * and -; this one is ${modelType}, ${pattern}`,
  );
}

/** The projections of an attention layer, as rows of numbers for each head. */
interface Projections {
  readonly heads: number;
  readonly headDim: number;
  /** [heads * headDim, hidden], keys and values repeated for the heads that share them. */
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly value: Float32Array;
  /** [hidden, heads * headDim] */
  readonly output: Float32Array;
}

/** The initial values of a new layer by name: whole parameters, or rows from an offset. */
type Taken = Readonly<Record<string, { readonly rows: Float32Array; readonly from?: number }>>;

function delta(separate: boolean): (p: Projections, hidden: number) => Taken {
  return (p) =>
    separate
      ? {
          'q_proj.weight': { rows: p.query },
          'k_proj.weight': { rows: p.key },
          'v_proj.weight': { rows: p.value },
          'o_proj.weight': { rows: p.output },
        }
      : {
          'in_proj_qkv.weight': { rows: joined(p.query, p.key, p.value) },
          'out_proj.weight': { rows: p.output },
        };
}

/** The letters whose layers inherit projections; other layers are newly initialized. Attention inherits all of them. */
const TAKEN: Readonly<Record<string, (p: Projections, hidden: number) => Taken>> = {
  G: delta(false),
  K: delta(true),
  g: delta(true),
  M: (p, hidden) => {
    const inner = p.heads * p.headDim;
    // in_proj computes z, x, B, C and dt: x are the values, B the keys, C the queries.
    return {
      'in_proj.weight': { rows: joined(p.value, p.key, p.query), from: inner * hidden },
      'out_proj.weight': { rows: p.output },
    };
  },
  L: (p, hidden) => {
    const size = p.headDim * hidden;
    const heads = Array.from({ length: p.heads }, (_, h) =>
      [p.query, p.key, p.value].map((all) => all.subarray(h * size, (h + 1) * size)),
    );
    return { 'qkv_proj.weight': { rows: joined(...heads.flat()) }, 'out_proj.weight': { rows: p.output } };
  },
};

const ATTENTION: ReadonlySet<string> = new Set(['*', 'W', 'S', 'Q']);

/**
 * A model of our own family with these layers and the weights of `source`. `pattern` has one letter for each attention layer and MLP of the
 * transformer, with MLPs at the same positions; `keys` are further config keys. New parameters are initialized from the seed. Throws
 * `ConfigError` for a pattern that does not fit, and for a transformer with parameters that the hybrid cannot have.
 */
export function convert(
  source: Model,
  weights: ReadonlyMap<string, HostTensor>,
  pattern: string,
  { keys = {}, seed = 1 }: { keys?: Partial<ModelConfigInput>; seed?: number } = {},
): Conversion {
  const { config, branches } = sourceOf(source);
  const layers = parsePattern(pattern);
  expectFit(pattern, layers, branches);
  const { numAttentionHeads: heads, headDim } = modelConfig(config);
  const own = modelConfig({
    ...config,
    mambaNumHeads: heads!,
    mambaHeadDim: headDim!,
    ssmStateSize: headDim!,
    nGroups: heads!,
    ...(/[GKgLDV]/.test(pattern) && { linearNumHeads: heads, linearKeyHeadDim: headDim }),
    ...keys,
    pattern,
  });
  const model = hybridModel(own);
  const random = new Random(seed);
  const specs = parametersOf(model);
  const made = new Map(
    specs.map(({ name, shape, initialize }) => [name, float32(initialize(random, shape), shape)]),
  );
  const unread = new Set(weights.keys());
  const fresh = new Set(made.keys());
  const numbers = (name: string): Float32Array => {
    unread.delete(name);
    return weights.get(name)!.data as Float32Array;
  };
  const put = (name: string, rows: Float32Array, from = 0): void => {
    const data = made.get(name)!.data as Float32Array;
    data.set(rows, from);
    if (rows.length === data.length) fresh.delete(name);
  };
  const { names } = source;
  put(`${model.names.embeddings}.weight`, numbers(`${names.embeddings}.weight`));
  put(`${model.names.finalNorm}.weight`, numbers(`${names.finalNorm}.weight`));
  if (!own.tieWordEmbeddings) put(`${model.names.head}.weight`, numbers(`${names.head}.weight`));
  for (const [i, branch] of branches.entries()) {
    const there = `${model.names.layers}.${i}`;
    put(`${there}.norm.weight`, numbers(`${branch.norm}.weight`));
    const values =
      branch.kind === 'mlp'
        ? ofMlp(branch.at, weights.has(`${branch.at}.input_linear.weight`), numbers)
        : ofMixer(branch.at, layers[i]!.letters[0]!, own, numbers);
    for (const [name, { rows, from }] of Object.entries(values)) put(`${there}.mixer.${name}`, rows, from);
    if (TAKEN[layers[i]!.letters[0]!]) makeIdentity(made, `${there}.mixer.conv1d`);
  }
  if (unread.size > 0) {
    throw new ConfigError(
      `this transformer has parameters that a model of ours has no place for: ${[...unread].slice(0, 4).join(', ')}${unread.size > 4 ? ` and ${unread.size - 4} more` : ''}`,
    );
  }
  return { model, weights: made, fresh: [...fresh] };
}

/** The values of an MLP, whose input projections are one matrix in our own family and two in llama. */
function ofMlp(at: string, isOwn: boolean, numbers: (name: string) => Float32Array): Taken {
  const input = (isOwn ? ['input_linear'] : ['gate_proj', 'up_proj']).map((name) =>
    numbers(`${at}.${name}.weight`),
  );
  return {
    'input_linear.weight': { rows: joined(...input) },
    'output_linear.weight': { rows: numbers(`${at}.${isOwn ? 'output_linear' : 'down_proj'}.weight`) },
  };
}

/** The values that the layer of a letter inherits from the attention layer at `at`. */
function ofMixer(
  at: string,
  letter: string,
  { numAttentionHeads: heads, numKeyValueHeads, headDim, hiddenSize }: ModelConfig,
  numbers: (name: string) => Float32Array,
): Taken {
  const [query, key, value, output] = ['q', 'k', 'v', 'o'].map((name) =>
    numbers(`${at}.${name}_proj.weight`),
  ) as [Float32Array, Float32Array, Float32Array, Float32Array];
  if (ATTENTION.has(letter)) {
    return {
      'q_proj.weight': { rows: query },
      'k_proj.weight': { rows: key },
      'v_proj.weight': { rows: value },
      'o_proj.weight': { rows: output },
    };
  }
  const spread = (x: Float32Array): Float32Array => repeated(x, numKeyValueHeads, heads);
  const projections = { heads, headDim, query, key: spread(key), value: spread(value), output };
  return TAKEN[letter]?.(projections, hiddenSize) ?? {};
}

function expectFit(pattern: string, layers: readonly PatternLayer[], branches: readonly Branch[]): void {
  const fits =
    layers.length === branches.length &&
    layers.every(
      ({ letters, shares }, i) =>
        letters.length === 1 &&
        shares === undefined &&
        (letters[0] === '-') === (branches[i]!.kind === 'mlp'),
    );
  if (fits) return;
  const own = branches.map(({ kind }) => (kind === 'mlp' ? '-' : '*')).join('');
  throw new ConfigError(
    `the pattern '${pattern}' does not fit a transformer with the layers ${own}: it has a letter for each of them, - in the place of each -`,
  );
}

/** A depthwise convolution that is the identity. */
function makeIdentity(made: ReadonlyMap<string, HostTensor>, name: string): void {
  const weight = made.get(`${name}.weight`);
  if (!weight) return;
  const width = weight.dims[2]!;
  (weight.data as Float32Array).forEach((_, i, all) => {
    all[i] = i % width === width - 1 ? 1 : 0;
  });
  (made.get(`${name}.bias`)?.data as Float32Array | undefined)?.fill(0);
}

function joined(...parts: readonly Float32Array[]): Float32Array {
  return joinedArrays(Float32Array, parts);
}

/** Rows of `groups` heads, each repeated so that there are `heads`. */
function repeated(x: Float32Array, groups: number, heads: number): Float32Array {
  if (groups === heads) return x;
  const size = x.length / groups;
  const each = heads / groups;
  return joined(
    ...Array.from({ length: heads }, (_, h) => {
      const group = Math.floor(h / each);
      return x.subarray(group * size, (group + 1) * size);
    }),
  );
}
