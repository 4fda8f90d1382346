/** Tokenizers in the form of Llama's, for tests. */
import { Tokenizer } from '../tokenizer.js';

/** BPE tokens behind `</s>`, with "▁" for spaces: one comes before each text that is encoded. More of the model and of the decoders is given. */
export function spacedTokenizer(
  tokens: readonly string[],
  { model = {}, decoders = [] }: { model?: object; decoders?: readonly object[] } = {},
): Tokenizer {
  return new Tokenizer({
    tokenizer: {
      added_tokens: [{ id: 0, content: '</s>', special: true }],
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: 'Sequence',
        decoders: [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, ...decoders],
      },
      model: {
        type: 'BPE',
        vocab: Object.fromEntries(['</s>', ...tokens].map((token, id) => [token, id])),
        merges: [],
        ...model,
      },
    },
    config: { eos_token: '</s>' },
  });
}
