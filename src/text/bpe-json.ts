/** A tokenizer of byte pairs as `tokenizer.json` has it, the format of Hugging Face's tokenizers. */

/** What differs between tokenizers of byte pairs; `null` leaves a step out. */
export interface BpeParts {
  readonly addedTokens: readonly object[];
  readonly normalizer: object | null;
  readonly preTokenizer: object | null;
  readonly decoder: object;
  /** Written for what has no tokens; several in a row become one. */
  readonly unknown?: string | null;
  /** Spells characters without a token in tokens of single bytes, as SentencePiece does. */
  readonly byteFallback?: boolean;
  /** A piece that is a token is taken as it is, whether or not the merges lead to it. */
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
