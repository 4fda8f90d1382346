/**
 * The bytes of each token: a token may have a part of a character, which no string can represent. Supported are the two ways
 * in which open checkpoints spell bytes: GPT-2's, with a visible character for each byte, and SentencePiece's, with `▁` for a
 * space and `<0xE2>` for a byte without another token.
 */
import { TokenizerError } from '../errors.js';
import { BYTE_SYMBOLS } from './byte-level.js';
import type { Tokenizer } from './tokenizer.js';
import { checkTokenizerJson, type TokenizerJson } from './tokenizer-schema.js';

const SPACE = /\u2581/g;
const BYTE = /^<0x([0-9A-F]{2})>$/;

const utf8 = new TextEncoder();

/** The bytes of every token. */
export class Vocabulary {
  private constructor(
    /** By id; undefined for ids without a token. */
    readonly bytes: readonly (Uint8Array | undefined)[],
    /** Control tokens, which are not part of a text. */
    readonly special: ReadonlySet<number>,
  ) {}

  /** Throws `TokenizerError` for a tokenizer with another spelling of bytes. */
  static of({ files }: Tokenizer): Vocabulary {
    const json = checkTokenizerJson(files.tokenizer, 'the tokenizer');
    const spell = spellingOf(json);
    const bytes: (Uint8Array | undefined)[] = [];
    const { vocab } = json.model;
    const entries = Array.isArray(vocab)
      ? vocab.map(([token], id) => [token, id] as const)
      : Object.entries(vocab);
    for (const [token, id] of entries) bytes[id] = spell(token);
    const special = new Set<number>();
    for (const token of json.added_tokens) {
      bytes[token.id] = utf8.encode(token.content);
      if (token.special === true) special.add(token.id);
    }
    return new Vocabulary(bytes, special);
  }
}

function spellingOf(json: TokenizerJson): (token: string) => Uint8Array | undefined {
  const kinds = new Set([...kindsOf(json.decoder), ...kindsOf(json.pre_tokenizer)]);
  if (kinds.has('ByteLevel')) return byteLevel;
  if (kinds.has('Metaspace') || kinds.has('ByteFallback')) return sentencePiece;
  throw new TokenizerError(
    `it cannot be told which bytes the tokens of this tokenizer stand for (its decoder is ${json.decoder?.type ?? 'none'}): use a model whose tokenizer works on bytes`,
  );
}

/** The types of a component, and of the members of a sequence of components. */
function kindsOf(component: TokenizerJson['decoder']): string[] {
  if (!component) return [];
  const parts = [component.decoders, component.pretokenizers].flatMap((list) =>
    Array.isArray(list) ? list : [],
  );
  return [component.type, ...parts.flatMap(kindsOf)];
}

const SYMBOL_BYTES = new Map(BYTE_SYMBOLS.map((symbol, byte) => [symbol, byte]));

function byteLevel(token: string): Uint8Array | undefined {
  const bytes = Array.from(token, (symbol) => SYMBOL_BYTES.get(symbol));
  return bytes.includes(undefined) ? undefined : Uint8Array.from(bytes as number[]);
}

function sentencePiece(token: string): Uint8Array {
  const byte = BYTE.exec(token)?.[1];
  return byte === undefined
    ? utf8.encode(token.replace(SPACE, ' '))
    : Uint8Array.of(Number.parseInt(byte, 16));
}
