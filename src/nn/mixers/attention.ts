/**
 * Causal softmax attention with grouped queries (Ainslie et al., 2023), with rotary positions or none.
 *
 * State for one sequence: `key` and `value` [keyValueHeads, past, headDim], which grow with every token.
 */
import {
  type Dim,
  attention as dotProductAttention,
  multiply,
  reshape,
  sigmoid,
  split,
  type Tensor,
} from '../../graph/index.js';
import { linear, mergeHeads, type RmsNormOptions, rmsNorm, splitHeads } from '../layers.js';
import type { Mixer, MixerContext, StateSpec, StateTensors } from '../mixer.js';
import { normal, type Parameters } from '../parameters.js';
import { type RopeConfig, rotate } from '../rope.js';

/** Softmax attention over all tokens before: sizes, and what the families change in it. */
export interface AttentionConfig {
  /** Width of the output. */
  hiddenSize: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  /** No positions without it. */
  rope?: RopeConfig | undefined;
  /** Multiplies the logits; 1/sqrt(headDim) by default. */
  scale?: number;
  /** Whether the projections of queries, keys and values have a bias, and whether that of the output has. */
  inputBias?: boolean;
  outputBias?: boolean;
  /** Norms of queries and keys: of each head, or (`whole`) of all heads together. */
  headNorm?: HeadNorm;
  /** Multiplies the keys (muP). */
  keyFactor?: number;
  /** The query projection also makes a gate: its sigmoid multiplies the heads (Qwen3-Next). */
  gated?: boolean;
  /** Adds to what the projection `name` makes of x, such as Zamba2's adapters do. */
  adapt?: (parameters: Parameters, name: string, x: Tensor, projected: Tensor) => Tensor;
  /** Makes queries, keys and values; by default they are linear in x, as this config says. */
  heads?: HeadMaker;
  /** `o_proj` by default. */
  outputName?: string;
  outputDeviation: number;
}

/** How queries, keys and values are made of x, with what that takes to remember. */
export interface HeadMaker {
  readonly state: readonly StateSpec[];
  make(
    parameters: Parameters,
    x: Tensor,
    context: Pick<MixerContext, 'state' | 'position' | 'documents'>,
  ): Heads & { readonly state: StateTensors };
}

/** Queries, keys and values by the config's maker of heads, or linear in x. */
export function makeHeads(
  parameters: Parameters,
  x: Tensor,
  config: AttentionConfig,
  context: Pick<MixerContext, 'state' | 'position' | 'documents'>,
): Heads & { readonly state: StateTensors } {
  if (config.heads) return config.heads.make(parameters, x, context);
  return { ...projectHeads(parameters, x, config, context.position), state: {} };
}

/** RMS norms of queries and keys, and the names of their weights. */
export interface HeadNorm extends RmsNormOptions {
  names: { query: string; key: string };
  whole?: boolean;
}

/**
 * Grouped-query attention (Ainslie et al., 2023, arXiv 2305.13245) for x [batch, sequence, hiddenSize]. State for one
 * sequence: `key` and `value` [numKeyValueHeads, past, headDim], which grow with every token.
 */
export function attention(config: AttentionConfig): Mixer {
  const shape = ['batch', config.numKeyValueHeads, 'past', config.headDim];
  return {
    state: [
      ...(config.heads?.state ?? []),
      { name: 'key', dtype: 'float32', shape, grows: 2, initial: 0 },
      { name: 'value', dtype: 'float32', shape, grows: 2, initial: 0 },
    ],
    forward(
      parameters,
      x,
      { state, position, lengths = position, entries = (kept) => kept, documents, observe },
    ) {
      const heads = makeHeads(parameters, x, config, { state, position, documents });
      const { query } = heads;
      const key = entries(heads.key);
      const value = entries(heads.value);
      const past = state && { key: state.key!, value: state.value!, lengths };
      const options = { scale: scaleOf(config), causal: true };
      const { output, weights } = dotProductAttention({ query, key, value, past, documents }, options);
      observe?.({ kind: 'attention', weights });
      return {
        output: projectOutput(parameters, output, heads, config),
        state: { ...heads.state, key, value },
      };
    },
  };
}

/** What scores are multiplied by: 1 / sqrt(headDim) unless a config says otherwise. */
export function scaleOf({ headDim, scale }: { headDim: number; scale?: number }): number {
  return scale ?? 1 / Math.sqrt(headDim);
}

/** The projections of attention, cut into heads. */
export interface Heads {
  /** Each [batch, heads, sequence, headDim]; queries and keys are rotated if asked. */
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  /** [batch, sequence, heads * headDim], where there is one. */
  readonly gate?: Tensor | undefined;
}

/** Queries, keys and values of x [batch, sequence, hidden]. */
export function projectHeads(
  parameters: Parameters,
  x: Tensor,
  config: AttentionConfig,
  position: Tensor,
): Heads {
  const { numHeads, numKeyValueHeads, headDim, rope, headNorm, keyFactor = 1 } = config;
  const project = (name: string, width: number): Tensor => {
    const plain = parameters.within(name, (p) => linear(p, x, width, { bias: config.inputBias ?? false }));
    return config.adapt?.(parameters, name, x, plain) ?? plain;
  };
  const arrange = (flat: Tensor, count: number, normName: string | undefined): Tensor => {
    const normalize = (h: Tensor): Tensor =>
      parameters.within(normName!, (p) => rmsNorm(p, h, headNorm as RmsNormOptions));
    if (!normName) return splitHeads(flat, count);
    return headNorm!.whole ? splitHeads(normalize(flat), count) : normalize(splitHeads(flat, count));
  };
  const turn = (h: Tensor): Tensor => (rope ? rotate(h, position, rope) : h);

  const queryWidth = numHeads * headDim;
  let query = project('q_proj', config.gated ? 2 * queryWidth : queryWidth);
  let gate: Tensor | undefined;
  if (config.gated) {
    // A head's query and its gate lie side by side.
    const [batch, sequence] = x.shape as [Dim, Dim, Dim];
    const pairs = split(reshape(query, [batch, sequence, numHeads, 2 * headDim]), -1, [headDim, headDim]);
    [query, gate] = pairs.map((part) => reshape(part, [batch, sequence, queryWidth])) as [Tensor, Tensor];
  }
  const key = project('k_proj', numKeyValueHeads * headDim);
  return {
    query: turn(arrange(query, numHeads, headNorm?.names.query)),
    key: turn(
      arrange(keyFactor === 1 ? key : multiply(key, keyFactor), numKeyValueHeads, headNorm?.names.key),
    ),
    value: splitHeads(project('v_proj', numKeyValueHeads * headDim), numKeyValueHeads),
    gate,
  };
}

/** Joins the heads [batch, heads, sequence, headDim], gates them if asked, and maps them back to the hidden size. */
export function projectOutput(
  parameters: Parameters,
  heads: Tensor,
  { gate }: Pick<Heads, 'gate'>,
  config: AttentionConfig,
): Tensor {
  const joined = mergeHeads(heads);
  return parameters.within(config.outputName ?? 'o_proj', (p) =>
    linear(p, gate ? multiply(joined, sigmoid(gate)) : joined, config.hiddenSize, {
      bias: config.outputBias ?? false,
      initialize: normal(config.outputDeviation),
    }),
  );
}
