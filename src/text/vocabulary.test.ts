/** The bytes of tokens, whose concatenation is the encoded text. */
import { describe, expect, test } from 'vitest';
import { TokenizerError } from '../errors.js';
import { tinyTokenizer } from './testing/tiny.js';
import { Tokenizer } from './tokenizer.js';
import { Vocabulary } from './vocabulary.js';

function joined(vocabulary: Vocabulary, ids: readonly number[]): string {
  return new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => Array.from(vocabulary.bytes[id]!))));
}

/** A tokenizer whose vocabulary is spelled as SentencePiece does. */
function sentencePiece(decoder: object | null): Tokenizer {
  const vocab = { '<unk>': 0, '<0xE2>': 1, '\u2581the': 2, cat: 3, '\u2581': 4 };
  const model = { type: 'BPE', vocab, merges: [], byte_fallback: true, unk_token: '<unk>' };
  const added = [{ id: 5, content: '</s>', special: true }];
  const tokenizer = { added_tokens: added, normalizer: null, pre_tokenizer: null, post_processor: null };
  return new Tokenizer({ tokenizer: { ...tokenizer, decoder, model }, config: {} });
}

describe('vocabulary', () => {
  test.each(['the cat sat', 'ünïcödé 日本語 🙂🙃', ' \n\t"{}', 'a 🙂 in a text'])('spells %j', (text) => {
    expect(joined(Vocabulary.of(tinyTokenizer), tinyTokenizer.encode(text))).toBe(text);
  });

  test('spells like SentencePiece', () => {
    const { bytes, special } = Vocabulary.of(sentencePiece({ type: 'ByteFallback' }));
    expect(Array.from(bytes[1]!)).toEqual([0xe2]);
    expect(new TextDecoder().decode(bytes[2])).toBe(' the');
    expect(new TextDecoder().decode(bytes[3])).toBe('cat');
    expect([...special]).toEqual([5]);
  });

  test('refuses a tokenizer without a known spelling of bytes', () => {
    expect(() => Vocabulary.of(sentencePiece({ type: 'WordPiece' }))).toThrow(TokenizerError);
  });
});
