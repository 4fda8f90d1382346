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

/** A layer, with those of its mixers that were looked into. */
export interface TracedLayerOf<V> {
  /** From 0. */
  readonly index: number;
  /** What it is made of, in the letters of a pattern, such as `M`, `-` or `[M*]-`. */
  readonly letters: string;
  /** Those that mix along the sequence, in the order of the letters; an MLP has none. */
  readonly mixers: readonly TracedMixerOf<V>[];
}

/** What one mixer did: its (hidden) attention, its selection, and what it wrote, kept and erased. */
export interface TracedMixerOf<V> {
  readonly letter: string;
  /** Such as `Mamba-2` or `selective attention`. */
  readonly name: string;
  /**
   * `attention`: the weights of softmax attention, whose rows sum to 1. `hidden attention`: the matrix of a recurrence or a
   * convolution (Ali, Zimerman & Wolf, 2024, arXiv 2403.01590), which times the layer's inner inputs gives what leaves the
   * recurrence; it has negative elements too, and rows of any sum. A token's way past the recurrence (Mamba's D) is not in it.
   */
  readonly kind: 'attention' | 'hidden attention';
  /** How many heads there are; where every channel mixes on its own it is one. */
  readonly numHeads: number;
  /** Which of them are shown below. */
  readonly heads: readonly number[];
  /** [heads, tokens, tokens]; absent where no matrices were asked for. */
  readonly weights?: V;
  /** Of attention with a fixed memory: which tokens it holds. */
  readonly selection?: SelectionOf<V>;
  /**
   * [heads, tokens]: how much of a token enters the memory: dt of Mamba and Mamba-2, beta of a delta net, the input gate and root of
   * an RG-LRU, both weights that Mamba-3 gives the token before.
   */
  readonly write?: V;
  /** [heads, tokens]: the share of the memory that a token leaves, exp(dt A); the mean of a head that has several. */
  readonly keep?: V;
  /**
   * [heads, tokens]: of a delta rule, the share of the memory that a token takes out, before it writes: the length of what it takes out
   * over that of the memory, after the decay.
   */
  readonly erase?: V;
  /**
   * [numHeads]: tokens after which 1/e of what was written is left, had every token the mean log share of this text. What a
   * delta rule overwrites goes sooner.
   */
  readonly horizon?: V;
}

/** Which tokens an attention layer with a fixed memory holds, and until when. */
export interface SelectionOf<V> {
  /** The last so many tokens are seen, whatever their score. */
  readonly window: number;
  /** Of the older ones, so many with the highest scores are seen. */
  readonly selected: number;
  /** [tokens]; absent where nothing is selected. */
  readonly scores?: V;
  /** [tokens]: the first place from which each is seen no more, or the number of tokens. It never comes back. */
  readonly seenUntil: V;
}

/** The logit lens: what the model would say next, read from the residual stream after each layer. */
export interface LensOf<V> {
  /** The layers after which the residual stream was read as if it were the last; the last layer is always there. */
  readonly layers: readonly number[];
  /** The likeliest tokens: [layers, tokens, top], the first the likeliest. */
  readonly ids: V;
  readonly probabilities: V;
  /** What those ids stand for. */
  readonly texts: Readonly<Record<number, string>>;
}

/** How much each token contributed to the log probability of one token after it. */
export interface AttributionOf<V> {
  /** The place of the token that is explained; after the last one it is what the model would say next. */
  readonly position: number;
  readonly token: Token;
  /** Nats, given all tokens before it. */
  readonly logProbability: number;
  /**
   * [position]: gradient x input of each token before it, with the scales of the norms held fixed: what its embedding adds to the
   * log probability, to first order.
   */
  readonly scores: V;
  /** [places]: the same of each place of the source, where there is one. */
  readonly sourceScores?: V;
  /** Absent where there are too few tokens to take any away, and behind a source. */
  readonly deletion?: DeletionOf<V>;
}

/**
 * Whether the scores tell the truth: tokens are taken out of the text, and the log probability is computed again. The last
 * token before the explained one always stays: without it another token would be asked for.
 */
export interface DeletionOf<V> {
  /** How many tokens are taken away. */
  readonly counts: readonly number[];
  /** [counts]: nats that are lost without those of the highest scores. */
  readonly attributed: V;
  /** [counts, draws]: nats that are lost without as many others, drawn at random. */
  readonly random: V;
}
