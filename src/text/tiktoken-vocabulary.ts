/**
 * `tiktoken.model`: a line `base64 rank` for each token. Of all neighbouring pairs, the one whose merged token has the lowest
 * rank is merged first; a whole piece that is a token is kept. The file does not define the pre-tokenizer, which is in a
 * checkpoint's Python code; that of Moonshot's Kimi models (tokenization_kimi.py) is known here. They have 256 ids after the last
 * rank for control tokens.
 */
import { TokenizerError } from '../errors.js';
import { bpeTokenizer } from './bpe-json.js';
import { byteLevel, KIMI, split } from './cuttings.js';
import { addedToken, tokensOf } from './token-table.js';
import type { VocabularyReader } from './vocabulary-files.js';

const RESERVED = 256;

/** Throws `TokenizerError` for a damaged line, and for a vocabulary of another family. */
export const readTiktoken: VocabularyReader = (text, path, config) => {
  if (!/tokenization_kimi/.test(JSON.stringify(config.auto_map ?? ''))) {
    throw new TokenizerError(
      `${path} does not say how texts are cut before tokens are sought in them, which is known of Kimi's alone: put the model's tokenizer.json beside it`,
    );
  }
  const vocab = tokensOf(text, path, (line) => {
    const [, base64, rank] = /^((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3}={1,2})?) (\d+)$/.exec(line) ?? [];
    if (!base64) return `expected base64 and a rank, not ${line}`;
    return { bytes: Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0)), id: Number(rank) };
  });
  const first = Math.max(...vocab.values()) + 1;
  const reserved = Array.from({ length: RESERVED }, (_, i) => {
    const id = first + i;
    const { content = `<|reserved_token_${id}|>`, special = true } = config.added_tokens_decoder?.[id] ?? {};
    return addedToken(id, content, special);
  });
  return {
    tokenizer: bpeTokenizer({
      addedTokens: reserved,
      normalizer: null,
      preTokenizer: split(KIMI),
      decoder: byteLevel(true),
      ignoreMerges: true,
      vocab,
      merges: mergesOf(vocab),
    }),
    config: { ...config, tokenizer_class: 'PreTrainedTokenizerFast', auto_map: undefined },
  };
};

/** The merges: the two tokens of lower rank from which each longer token is merged, in the order of the ranks. */
function mergesOf(vocab: ReadonlyMap<string, number>): string[] {
  const merges: string[] = [];
  for (const [token, rank] of [...vocab].sort((a, b) => a[1] - b[1])) {
    const parts = [...token];
    while (parts.length > 2) {
      let [at, lowest] = [-1, rank];
      for (let i = 0; i + 1 < parts.length; i++) {
        const joined = vocab.get(parts[i]! + parts[i + 1]!);
        if (joined !== undefined && joined < lowest) [at, lowest] = [i, joined];
      }
      if (at < 0) break;
      parts.splice(at, 2, parts[at]! + parts[at + 1]!);
    }
    if (parts.length === 2) merges.push(parts.join(' '));
  }
  return merges;
}
