/**
 * The contents of a trace. Shapes are in brackets; `tokens` is the number of traced tokens, `heads` that of the selected heads. Row i of a matrix is
 * the reading token (query), column j the token read from (key); entries with j > i are 0.
 *
 * A trace has two forms with different tensors: `Trace` in memory, `TraceJson` in JSON.
 */

/** A float32 tensor. */
export interface Values {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/** A float32 tensor in JSON: `data` is base64 of the little-endian elements. */
export interface EncodedValues {
  readonly dims: readonly number[];
  readonly data: string;
}

/** A trace whose arrays are typed arrays. */
export type Trace = TraceOf<Values>;
/** A trace whose arrays are base64 texts: what `JSON.stringify` takes. */
export type TraceJson = TraceOf<EncodedValues>;

/** A trace; `V` is the type of its tensors. */
export interface TraceOf<V> {
  readonly model: TracedModel;
  readonly tokens: readonly TracedToken[];
  /** The source, for models that have one. */
  readonly source?: TracedSource;
  /** All layers in order; layers that were not selected have no mixers. */
  readonly layers: readonly TracedLayerOf<V>[];
  /** The logit lens: the predictions after each layer, if requested. */
  readonly lens?: LensOf<V>;
  /** In the requested order. */
  readonly attributions: readonly AttributionOf<V>[];
}

/** The source before the text. */
export interface TracedSource {
  readonly kind: 'texts' | 'images' | 'sounds';
  /** Labels of its positions: words, patches, times. */
  readonly places: readonly string[];
}

/** The model that was traced. */
export interface TracedModel {
  /** `model_type` of its config. */
  readonly type: string;
  /** Its layers in letters, such as `(M-M-M-M-S-)x2`. */
  readonly pattern: string;
}

/** A token of the traced text. */
export interface Token {
  readonly id: number;
  /** Its text alone; a partial character is U+FFFD. */
  readonly text: string;
}

/** A token and its probability. */
export interface TracedToken extends Token {
  /** Nats that the model gave it after the tokens before it; the first has none. */
  readonly logProbability?: number;
}

/** A layer with its traced mixers. */
export interface TracedLayerOf<V> {
  /** From 0. */
  readonly index: number;
  /** Its blocks, in the letters of a pattern, such as `M`, `-` or `[M*]-`. */
  readonly letters: string;
  /** Its blocks that mix along the sequence, in the order of the letters; an MLP is not one. */
  readonly mixers: readonly TracedMixerOf<V>[];
}

/** The trace of a mixer: its (hidden) attention, its selection, and its write, keep and erase gates. */
export interface TracedMixerOf<V> {
  readonly letter: string;
  /** Such as `Mamba-2` or `selective attention`. */
  readonly name: string;
  /**
   * `attention`: the weights of softmax attention, whose rows sum to 1. `hidden attention`: the matrix of a recurrence or a
   * convolution (Ali, Zimerman & Wolf, 2024, arXiv 2403.01590), which maps the layer's inner inputs to the recurrence's outputs;
   * its elements can be negative, and its rows have any sum. The skip connection past the recurrence (Mamba's D) is not included.
   */
  readonly kind: 'attention' | 'hidden attention';
  /** The number of heads; if every channel mixes separately, a channel is a head. */
  readonly numHeads: number;
  /** The traced heads. */
  readonly heads: readonly number[];
  /** [heads, tokens, tokens]; absent if matrices were not requested. */
  readonly weights?: V;
  /** For attention with a fixed memory: the tokens that it keeps. */
  readonly selection?: SelectionOf<V>;
  /**
   * [heads, tokens]: the weight with which a token is written to the memory: dt of Mamba and Mamba-2, beta of a delta net, the input gate and root of
   * an RG-LRU, the sum of both of Mamba-3's weights of a token.
   */
  readonly write?: V;
  /** [heads, tokens]: the factor by which a token decays the memory, exp(dt A); the mean if a head has several. */
  readonly keep?: V;
  /**
   * [heads, tokens]: for a delta rule, the share of the memory that a token erases before it writes: the norm of the erased part
   * over that of the memory, after the decay.
   */
  readonly erase?: V;
  /**
   * [numHeads]: the number of tokens after which 1/e of a write is left, if every token has the mean log decay of this text. What a
   * delta rule overwrites is lost earlier.
   */
  readonly horizon?: V;
}

/** The tokens that an attention layer with a fixed memory keeps, and until when. */
export interface SelectionOf<V> {
  /** The number of last tokens that are always visible. */
  readonly window: number;
  /** The number of older tokens with the highest scores that are visible too. */
  readonly selected: number;
  /** [tokens]; absent if nothing is selected. */
  readonly scores?: V;
  /** [tokens]: the first position that does not see the token, or the number of tokens. A dropped token never returns. */
  readonly seenUntil: V;
}

/** The logit lens: the next token predicted from the residual stream after each layer. */
export interface LensOf<V> {
  /** The layers to whose output the head was applied; the last layer is always included. */
  readonly layers: readonly number[];
  /** The most probable tokens, in descending order: [layers, tokens, top]. */
  readonly ids: V;
  readonly probabilities: V;
  /** The texts of those ids. */
  readonly texts: Readonly<Record<number, string>>;
}

/** How much each token contributed to the log probability of one token after it. */
export interface AttributionOf<V> {
  /** The position of the explained token; the position after the last token is the model's next token. */
  readonly position: number;
  readonly token: Token;
  /** Nats, given all tokens before it. */
  readonly logProbability: number;
  /**
   * [position]: gradient x input of each token before it, with the scales of the norms fixed: the first-order contribution of its
   * embedding to the log probability.
   */
  readonly scores: V;
  /** [places]: the same for each position of the source, if there is one. */
  readonly sourceScores?: V;
  /** Absent if there are too few tokens to delete, and for models with a source. */
  readonly deletion?: DeletionOf<V>;
}

/**
 * The deletion test of the scores: tokens are deleted from the text, and the log probability is computed again. The last
 * token before the explained one is never deleted, since the model predicts from it.
 */
export interface DeletionOf<V> {
  /** The numbers of deleted tokens. */
  readonly counts: readonly number[];
  /** [counts]: the loss of log probability, in nats, without the tokens with the highest scores. */
  readonly attributed: V;
  /** [counts, draws]: the loss without as many random tokens. */
  readonly random: V;
}
