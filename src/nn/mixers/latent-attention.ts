/**
 * Multi-head latent attention (DeepSeek-V2, 2024, arXiv 2405.04434, section 2.1), as transformers' modeling_deepseek_v3.py
 * and modeling_kimi_linear.py have it. Keys and values of all heads are made from one latent c of a token, and all heads
 * share a rotary key r:
 *
 *     q = q_proj(x), or q_b_proj(norm(q_a_proj(x)))          for each head [qn | qr]
 *     [c | r] = kv_a_proj_with_mqa(x)                        c is normed; qr and r are rotated, where there are positions
 *     [kn | v] = kv_b_proj(c)                                for each head
 *     o = o_proj(softmax((qn . kn + qr . r) * scale) v)      scale = 1/sqrt(keyDim + rotaryDim)
 *
 * A whole sequence is computed so. After a state the projections of keys and values move to the other side (the *absorbed*
 * form): with kv_b_proj = [K; V] for each head, qn . K c = (K^T qn) . c, and the mean of V c is V times the mean of c. So
 * nothing but [c | r] is kept, and keys and values of the tokens before are never made.
 *
 * State for one sequence: `latent` [1, past, latentSize + rotaryDim], which grows with every token.
 */
import {
  broadcastTo,
  concat,
  type Dim,
  attention as dotProductAttention,
  matmul,
  multiply,
  reshape,
  sigmoid,
  split,
  type Tensor,
  transpose,
} from '../../graph/index.js';
import { linear, linearWeight, mergeHeads, perChannel, project, rmsNorm, splitHeads } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { normal, type Parameters } from '../parameters.js';
import { type RopeConfig, rotate } from '../rope.js';

/** Sizes of multi-head latent attention, under DeepSeek's names in the comments. */
export interface LatentAttentionConfig {
  hiddenSize: number;
  numHeads: number;
  /** Width of the latent, from which keys and values are made: `kv_lora_rank`. */
  latentSize: number;
  /** Width of the part of a head's key that is made from the latent: `qk_nope_head_dim`. */
  keyDim: number;
  /** Width of the part of a key that all heads share: `qk_rope_head_dim`; may be 0. */
  rotaryDim: number;
  valueDim: number;
  /** `q_lora_rank`: queries are made from a latent, too. */
  queryLatentSize?: number | undefined;
  /** No positions without it; rotates rotaryDim numbers. */
  rope?: RopeConfig | undefined;
  /** Neighbours rotate with each other, instead of the halves (DeepSeek's `rope_interleave`). */
  ropeInterleaved?: boolean;
  /** Multiplies the logits; 1/sqrt(keyDim + rotaryDim) by default. */
  scale?: number;
  /** The sigmoid of g_proj(x) multiplies the output: a number for each channel, or one for a whole head (Ling-3.0). */
  outputGate?: 'channel' | 'head' | undefined;
  /** `o_proj` by default. */
  outputName?: string;
  /** Whether q_a_proj, kv_a_proj_with_mqa and o_proj have biases. */
  bias?: boolean;
  normEpsilon: number;
  outputDeviation: number;
}

/** The mixer for x [batch, sequence, hiddenSize], by the equations at the head of this file. */
export function latentAttention(config: LatentAttentionConfig): Mixer {
  const { hiddenSize, latentSize, rotaryDim, bias = false, outputDeviation } = config;
  const shape = ['batch', 1, 'past', latentSize + rotaryDim];
  return {
    state: [{ name: 'latent', dtype: 'float32', shape, grows: 2, initial: 0 }],
    forward(parameters, x, { state, position, lengths = position, entries, documents, observe }) {
      const query = queriesOf(parameters, x, position, config);
      const fresh = entriesOf(parameters, x, position, config);
      const entry = entries ? apart(entries(joined(fresh)), config) : fresh;
      const past = state && { key: state.latent!, lengths };
      const matrix = matrixOf(parameters, config);
      const { output: heads, weights } = past
        ? absorbed(matrix, query, entry, config, past, documents)
        : expanded(matrix, query, entry, config, documents);
      observe?.({ kind: 'attention', weights });
      const gated = gatedOutput(parameters, x, mergeHeads(heads), config);
      const output = parameters.within(config.outputName ?? 'o_proj', (p) =>
        linear(p, gated, hiddenSize, { bias, initialize: normal(outputDeviation) }),
      );
      return { output, state: { latent: joined(entry) } };
    },
  };
}

/** The heads side by side [batch, sequence, numHeads * valueDim], gated if asked. */
function gatedOutput(
  parameters: Parameters,
  x: Tensor,
  heads: Tensor,
  config: LatentAttentionConfig,
): Tensor {
  const { outputGate, numHeads, valueDim } = config;
  if (!outputGate) return heads;
  const width = outputGate === 'head' ? numHeads : numHeads * valueDim;
  const open = sigmoid(parameters.within('g_proj', (p) => linear(p, x, width)));
  return multiply(heads, outputGate === 'head' ? perChannel(open, valueDim) : open);
}

/** The two parts of queries [batch, heads, sequence, .], or of the cache's entries [batch, 1, sequence, .]. */
interface Parts {
  /** For queries, the part that is multiplied with the latent; for entries, the latent. */
  readonly content: Tensor;
  /** Absent where it has no numbers. */
  readonly rotary: Tensor | undefined;
}

function joined({ content, rotary }: Parts): Tensor {
  return rotary ? concat([content, rotary], -1) : content;
}

function apart(entry: Tensor, { latentSize, rotaryDim }: LatentAttentionConfig): Parts {
  if (rotaryDim === 0) return { content: entry, rotary: undefined };
  const [content, rotary] = split(entry, -1, [latentSize, rotaryDim]) as [Tensor, Tensor];
  return { content, rotary };
}

function queriesOf(
  parameters: Parameters,
  x: Tensor,
  position: Tensor,
  config: LatentAttentionConfig,
): Parts {
  const { numHeads, keyDim, rotaryDim, queryLatentSize, bias = false } = config;
  const width = numHeads * (keyDim + rotaryDim);
  const to = (name: string, from: Tensor, outputs: number, isBiased: boolean): Tensor =>
    parameters.within(name, (p) => linear(p, from, outputs, { bias: isBiased }));
  const flat =
    queryLatentSize === undefined
      ? to('q_proj', x, width, false)
      : to(
          'q_b_proj',
          normed(parameters, 'q_a_layernorm', to('q_a_proj', x, queryLatentSize, bias), config),
          width,
          false,
        );
  return rotated(splitHeads(flat, numHeads), keyDim, position, config);
}

/** The cache's entry of each token. */
function entriesOf(
  parameters: Parameters,
  x: Tensor,
  position: Tensor,
  config: LatentAttentionConfig,
): Parts {
  const { latentSize, rotaryDim, bias = false } = config;
  const flat = parameters.within('kv_a_proj_with_mqa', (p) => linear(p, x, latentSize + rotaryDim, { bias }));
  const { content, rotary } = rotated(splitHeads(flat, 1), latentSize, position, config);
  return { content: normed(parameters, 'kv_a_layernorm', content, config), rotary };
}

function normed(parameters: Parameters, name: string, x: Tensor, config: LatentAttentionConfig): Tensor {
  return parameters.within(name, (p) => rmsNorm(p, x, { epsilon: config.normEpsilon }));
}

/** x [batch, heads, sequence, content + rotaryDim] in its parts, the second one rotated if asked. */
function rotated(x: Tensor, content: number, position: Tensor, config: LatentAttentionConfig): Parts {
  const { rotaryDim, rope, ropeInterleaved = false } = config;
  if (rotaryDim === 0) return { content: x, rotary: undefined };
  const [first, second] = split(x, -1, [content, rotaryDim]) as [Tensor, Tensor];
  if (!rope) return { content: first, rotary: second };
  return { content: first, rotary: rotate(ropeInterleaved ? halves(second) : second, position, rope) };
}

/** Neighbours [a0, b0, a1, b1, ...] as halves [a0, a1, ..., b0, b1, ...]: products of queries and keys stay as they are. */
function halves(x: Tensor): Tensor {
  const [batch, heads, sequence, size] = x.shape as [Dim, Dim, Dim, number];
  const pairs = reshape(x, [batch, heads, sequence, size / 2, 2]);
  return reshape(transpose(pairs, [0, 1, 2, 4, 3]), x.shape);
}

/** [heads * (keyDim + valueDim), latentSize] */
function matrixOf(parameters: Parameters, { numHeads, latentSize, keyDim, valueDim }: LatentAttentionConfig) {
  return parameters.within('kv_b_proj', (p) =>
    linearWeight(p, latentSize, numHeads * (keyDim + valueDim), { precise: true }),
  );
}

interface Mixed {
  /** [batch, heads, sequence, valueDim] */
  readonly output: Tensor;
  readonly weights: Tensor;
}

/** Keys and values of all heads are made: the cheaper form for a whole sequence. */
function expanded(
  matrix: Tensor,
  query: Parts,
  entry: Parts,
  config: LatentAttentionConfig,
  documents: Tensor | undefined,
): Mixed {
  const { numHeads, keyDim, rotaryDim, valueDim } = config;
  const [batch, , sequence, latentSize] = entry.content.shape as [Dim, Dim, Dim, Dim];
  const made = splitHeads(project(reshape(entry.content, [batch, sequence, latentSize]), matrix), numHeads);
  const [content, value] = split(made, -1, [keyDim, valueDim]) as [Tensor, Tensor];
  const rotary = entry.rotary && broadcastTo(entry.rotary, [batch, numHeads, sequence, rotaryDim]);
  const inputs = { query: joined(query), key: joined({ content, rotary }), value, documents };
  return dotProductAttention(inputs, { scale: scaleOf(config), causal: true });
}

/** Queries meet the latents themselves, and so does what is read: the cheaper form after a state. */
function absorbed(
  matrix: Tensor,
  query: Parts,
  entry: Parts,
  config: LatentAttentionConfig,
  past: { key: Tensor; lengths: Tensor } | undefined,
  documents: Tensor | undefined,
): Mixed {
  const { numHeads, keyDim, valueDim, latentSize } = config;
  const matrices = reshape(matrix, [numHeads, keyDim + valueDim, latentSize]);
  const [K, V] = split(matrices, 1, [keyDim, valueDim]) as [Tensor, Tensor];
  const absorbing = joined({ ...query, content: matmul(query.content, K) });
  const inputs = { query: absorbing, key: joined(entry), past, documents };
  const options = { scale: scaleOf(config), causal: true, valueSize: latentSize };
  const { output, weights } = dotProductAttention(inputs, options);
  return { output: matmul(output, V, { transposeB: true }), weights };
}

function scaleOf({ keyDim, rotaryDim, scale }: LatentAttentionConfig): number {
  return scale ?? 1 / Math.sqrt(keyDim + rotaryDim);
}
