/**
 * The two files in which the Hugging Face world keeps a tokenizer. What is written here is read by
 * `@huggingface/tokenizers`, by Python's `tokenizers` and `transformers`, and by whoever converts from them.
 */
import type { TrainedBpe } from './bpe.js';

/** The contents of `tokenizer.json` and `tokenizer_config.json`, as parsed JSON. */
export interface TokenizerFiles {
  tokenizer: object;
  config: object;
}

/** The files of a trained vocabulary. Its first special token, if it has one, becomes the end of a text. */
export function tokenizerFiles({ vocab, merges, specialTokens }: TrainedBpe): TokenizerFiles {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: specialTokens.map((content) => ({
        id: vocab.get(content),
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(vocab),
        // Every reader takes this form, older ones no other; a byte symbol is never a space.
        merges: merges.map(([left, right]) => `${left} ${right}`),
      },
    },
    config: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      ...(specialTokens.length > 0 ? { eos_token: specialTokens[0] } : {}),
    },
  };
}
