/** A BPE tokenizer in the format of `tokenizer.json`. */

/** The variable parts of BPE tokenizers; `null` omits a step. */
export interface BpeParts {
  readonly addedTokens: readonly object[];
  readonly normalizer: object | null;
  readonly preTokenizer: object | null;
  readonly decoder: object;
  /** The unknown token; several in a row are fused. */
  readonly unknown?: string | null;
  /** Whether characters without a token are spelled by byte tokens, as in SentencePiece. */
  readonly byteFallback?: boolean;
  /** Whether a piece that is a token is kept, even if the merges do not produce it. */
  readonly ignoreMerges?: boolean;
  readonly vocab: ReadonlyMap<string, number>;
  readonly merges: readonly (string | readonly [string, string])[];
}

/** The contents of the file. */
export function bpeTokenizer(parts: BpeParts): object {
  const { unknown, byteFallback = false, ignoreMerges = false } = parts;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: parts.addedTokens,
    normalizer: parts.normalizer,
    pre_tokenizer: parts.preTokenizer,
    post_processor: null,
    decoder: parts.decoder,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: unknown !== undefined,
      byte_fallback: byteFallback,
      ignore_merges: ignoreMerges,
      vocab: Object.fromEntries(parts.vocab),
      merges: parts.merges,
    },
  };
}
