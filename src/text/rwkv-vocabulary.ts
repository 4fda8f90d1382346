/**
 * RWKV's World vocabulary (BlinkDL, ChatRWKV, tokenizer/rwkv_tokenizer.py and rwkv_vocab_v20230424.txt): a line `id literal length`
 * for each token, with a Python literal of a text or of bytes. A text is encoded by the longest token at each position; the
 * equivalent tokenizer.json is WordPiece without a prefix over bytes (longest-match.ts).
 */
import { byteLevel } from './cuttings.js';
import { addedToken, damaged, spelled, tokensOf } from './token-table.js';
import { nameOf } from './tokenizer-schema.js';
import type { VocabularyReader } from './vocabulary-files.js';

/** The name in fla's conversions of id 0, which ends a text and is not in the vocabulary file. */
const END = '<|rwkv_tokenizer_end_of_text|>';

const utf8 = new TextEncoder();

/** Throws `TokenizerError` for a damaged line, and if a byte has no token. */
export const readRwkvVocabulary: VocabularyReader = (text, path, config) => {
  const vocab = tokensOf(text, path, (line) => {
    const [, id, kind, , literal, length] = /^(\d+) (b?)(['"])(.*)\3 (\d+)$/s.exec(line) ?? [];
    if (literal === undefined) return `expected an id, a Python literal and its length, not ${line}`;
    const characters = characterOf(literal);
    if (characters === undefined) return `${literal} is no literal of Python`;
    const bytes = kind === 'b' ? latin1(characters) : utf8.encode(characters);
    if (bytes?.length !== Number(length)) return `${literal} is not ${length} bytes long`;
    return { bytes, id: Number(id) };
  });
  for (let byte = 0; byte < 256; byte++) {
    if (!vocab.has(spelled(Uint8Array.of(byte)))) throw damaged(path, `the byte ${byte} has no token`);
  }
  const ids = new Set(vocab.values());
  const named = new Map(Object.entries(config.added_tokens_decoder ?? {}));
  if (!ids.has(0) && !named.has('0')) named.set('0', { content: END, special: true });
  // If `\n\n` is named as the end of a turn, transformers gives it a second, untrained id.
  const isNew = (id: string, content: string): boolean =>
    !ids.has(Number(id)) && !vocab.has(spelled(utf8.encode(content)));
  const isAdded = [...named].filter(([id, { content }]) => isNew(id, content));
  const added = isAdded.map(([id, { content, special = false }]) => addedToken(Number(id), content, special));
  // Python's tokenizers give an added token its id only where the vocabulary has it too.
  for (const [id, { content }] of isAdded) vocab.set(content, Number(id));
  const inVocabulary = (name: string | undefined): string | undefined => {
    const token = name === undefined ? undefined : spelled(utf8.encode(name));
    return token !== undefined && vocab.has(token) ? token : name;
  };
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: byteLevel(false),
      post_processor: null,
      decoder: byteLevel(false),
      model: {
        type: 'WordPiece',
        unk_token: spelled(Uint8Array.of(0)),
        continuing_subword_prefix: '',
        // A text is one word, so the limit is the largest 32-bit integer.
        max_input_chars_per_word: 2 ** 31 - 1,
        vocab: Object.fromEntries(vocab),
      },
    },
    config: {
      clean_up_tokenization_spaces: false,
      ...(config.chat_template !== undefined && { chat_template: config.chat_template }),
      ...(config.add_bos_token != null && { add_bos_token: config.add_bos_token }),
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: inVocabulary(nameOf(config.bos_token)) ?? END,
      eos_token: inVocabulary(nameOf(config.eos_token)) ?? END,
    },
  };
};

const ESCAPED: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
};

/** The value of a literal; undefined for an unknown escape. */
function characterOf(literal: string): string | undefined {
  let isFine = true;
  const text = literal.replace(
    /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.?))/gsu,
    (_, x?: string, u?: string, long?: string, octal?: string, letter?: string) => {
      const code = x ?? u ?? long;
      if (code !== undefined) return String.fromCodePoint(Number.parseInt(code, 16));
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
      const character = ESCAPED[letter!];
      isFine &&= character !== undefined;
      return character ?? '';
    },
  );
  return isFine ? text : undefined;
}

function latin1(characters: string): Uint8Array | undefined {
  const bytes = Array.from(characters, (character) => character.codePointAt(0)!);
  return bytes.every((byte) => byte < 256) ? Uint8Array.from(bytes) : undefined;
}
