/**
 * Tokenizers: text to ids and back, for any tokenizer that `@huggingface/tokenizers` supports.
 *
 * A corpus repeats its words, but that library caches nothing. With GPT-2's pre-tokenization and similar ones a space only begins a token, unless
 * white space precedes it, so no token spans a visible character and the space after it. Texts are therefore cut before such spaces, and each
 * distinct piece is encoded once. For tokenizers without this known property the whole text is encoded at once.
 */

import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { expectIterable, expectObject, expectText } from '../arguments.js';
import { TokenizerError } from '../errors.js';
import { END_OF_TEXT } from './bpe.js';
import { endsWordsAtSpaces } from './cuttings.js';
import { LongestMatch } from './longest-match.js';
import { ByteStream, DecodedStream, type TokenStream } from './token-stream.js';
import {
  readTokenizerFiles,
  TOKENIZER_CONFIG,
  TOKENIZER_JSON,
  type TokenizerFiles,
  writeTokenizerFiles,
} from './tokenizer-json.js';
import {
  checkTokenizerConfig,
  checkTokenizerJson,
  nameOf,
  SplitByPattern,
  type TokenizerConfig,
  type TokenizerJson,
} from './tokenizer-schema.js';
import { Vocabulary } from './vocabulary.js';

/** The most cached pieces; a corpus of 10 MB has some 70,000 distinct ones. */
const CACHED_PIECES = 100_000;

/** A tokenizer, from a tokenizer.json. */
export class Tokenizer {
  /** The parsed files that this was made of: `files.config` holds a chat template, if there is one. */
  readonly files: TokenizerFiles;
  /** The highest id + 1. A model may have more rows than that, never fewer. */
  readonly vocabSize: number;
  /** The id that ends a text and separates documents: the config's `eos_token`, else `<|endoftext|>`, if there is one. */
  readonly endOfText: number | undefined;
  /** The ids before a text at the beginning of a sequence, such as `<s>`. */
  readonly beginning: readonly number[];
  /** The names of special tokens. */
  readonly controlTokens: readonly string[];
  #vocabulary: Vocabulary | null | undefined;
  readonly #library: LibraryTokenizer;
  readonly #longestMatch: LongestMatch | undefined;
  /** The cache of pieces; undefined if texts must not be cut. */
  readonly #pieces: Map<string, readonly number[]> | undefined;
  #longestToken: number | undefined;

  /**
   * From parsed files, such as those of `tokenizerFiles`. `folder` is named in errors; `hint` is added to the error for a text without tokens.
   *
   * Throws `TokenizerError` for invalid files, and for unsupported kinds of tokenizers.
   */
  constructor(
    files: TokenizerFiles,
    folder?: string,
    private readonly hint?: string,
  ) {
    expectObject(files, 'the files of the tokenizer are', 'an object with tokenizer and config');
    const pathOf = (name: string): string => (folder === undefined ? name : `${folder}/${name}`);
    const json = checkTokenizerJson(files.tokenizer, pathOf(TOKENIZER_JSON));
    const config = checkTokenizerConfig(files.config, pathOf(TOKENIZER_CONFIG));
    try {
      this.#library = new LibraryTokenizer(files.tokenizer, files.config);
    } catch (error) {
      throw new TokenizerError(
        `${pathOf(TOKENIZER_JSON)} is of a kind that cannot be read here (${String(error)}); convert it to one that transformers calls fast`,
        { cause: error },
      );
    }
    this.files = files;
    this.#longestMatch = LongestMatch.is(json) ? new LongestMatch(json) : undefined;
    this.vocabSize = highestId(json) + 1;
    this.endOfText = this.tokenToId(nameOf(config.eos_token) ?? END_OF_TEXT);
    this.beginning = this.#beginningOf(config, json.post_processor !== null);
    this.controlTokens = json.added_tokens.flatMap(({ content, special }) => (special ? [content] : []));
    this.#pieces = canBeCut(json, config) ? new Map() : undefined;
  }

  /**
   * Reads `tokenizer.json` and, where there is one, `tokenizer_config.json` of a folder.
   *
   * Throws `TokenizerError`, with the file's path, for a file that is missing, truncated or not a tokenizer's.
   */
  static async load(folder: string): Promise<Tokenizer> {
    return new Tokenizer(await readTokenizerFiles(folder), folder);
  }

  /** Writes both files into a folder, which is created if it is missing. Throws `StorageError`. */
  save(folder: string): Promise<void> {
    return writeTokenizerFiles(folder, this.files);
  }

  /**
   * The ids of a text. A special token's name in the text becomes that token; none is added at the beginning or
   * the end. Half a surrogate pair is read as U+FFFD. Throws `DataError` for something that is not a string.
   */
  encode(text: string): number[] {
    expectText(text, 'the text is');
    if (!this.#pieces) return this.#encodeWhole(text);
    const ids: number[] = [];
    for (const piece of piecesOf(text)) {
      for (const id of this.#encodePiece(piece, this.#pieces)) ids.push(id);
    }
    return ids;
  }

  /** The ids of a text at the beginning of a sequence: `beginning`, unless the text starts with it, then those of the text. */
  encodeFromStart(text: string): number[] {
    return this.fromStart(this.encode(text));
  }

  /** Prepends `beginning` to ids, unless they start with it. */
  fromStart(ids: number[]): number[] {
    const { beginning } = this;
    return beginning.every((id, i) => ids[i] === id) ? ids : [...beginning, ...ids];
  }

  /** The tokens that the tokenizer prepends to a text, according to its files. */
  #beginningOf(
    { add_bos_token: adds, bos_token: bos }: TokenizerConfig,
    hasPostProcessor: boolean,
  ): number[] {
    if (adds === false || (!adds && !hasPostProcessor)) return [];
    const probe = 'a';
    const plain = this.#encodeWhole(probe);
    const whole: number[] = this.#library.encode(probe, { add_special_tokens: true }).ids;
    const at = whole.findIndex((_, i) => plain.every((id, j) => whole[i + j] === id));
    if (at > 0) return whole.slice(0, at);
    const id = adds ? this.tokenToId(nameOf(bos) ?? '') : undefined;
    return id === undefined ? [] : [id];
  }

  /** A lower bound of the number of tokens of a text, from its length; 0 if unknown. */
  leastTokens(text: string): number {
    this.#longestToken ??= longestToken(this.files.tokenizer as TokenizerJson);
    // A character has at least one byte.
    return Math.ceil(text.length / this.#longestToken);
  }

  /** The text of ids exactly as the model wrote it, special tokens by their names. An id without a token (a padding row) gives no text. Throws `DataError` for something that is not a list. */
  decode(ids: Iterable<number>): string {
    expectIterable(ids, 'the tokens are', 'numbers');
    const known = Array.from(ids).filter((id) => this.#library.id_to_token(id) !== undefined);
    // The library refuses an empty list, and its clean-up would drop spaces.
    return known.length === 0 ? '' : this.#library.decode(known, { clean_up_tokenization_spaces: false });
  }

  /** Decodes a stream of tokens, without partial characters. */
  stream(): TokenStream {
    const vocabulary = this.byteVocabulary;
    return vocabulary
      ? new ByteStream((id) => vocabulary.bytes[id])
      : new DecodedStream((ids) => this.decode(ids));
  }

  /**
   * The text of a token inside a text. A token with a partial character is shown by its bytes, as `bytes:\\xe9\\xaf`, which is OpenAI's format.
   */
  textOf(id: number): string {
    const bytes = this.byteVocabulary?.bytes[id];
    if (!bytes) return this.decode([id]);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
    }
  }

  /** The bytes of each token, if the kind of tokenizer defines them; computed on first use. */
  get byteVocabulary(): Vocabulary | undefined {
    if (this.#vocabulary !== undefined) return this.#vocabulary ?? undefined;
    try {
      this.#vocabulary = Vocabulary.of(this);
    } catch (error) {
      if (!(error instanceof TokenizerError)) throw error;
      this.#vocabulary = null;
    }
    return this.#vocabulary ?? undefined;
  }

  /** The id of a token as the vocabulary spells it, special tokens included. */
  tokenToId(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }

  #encodeWhole(text: string): number[] {
    if (this.#longestMatch) return this.#longestMatch.encode(text);
    const { ids, tokens } = this.#library.encode(text, { add_special_tokens: false });
    // Without an unknown token, the library returns no id for a token outside the vocabulary.
    const unknown = (ids as readonly unknown[]).indexOf(undefined);
    if (unknown < 0) return ids;
    const why = this.hint ?? 'the tokenizer has no token for it and none for what is unknown';
    throw new TokenizerError(`${JSON.stringify(tokens[unknown])} cannot be read: ${why}`);
  }

  #encodePiece(piece: string, cache: Map<string, readonly number[]>): readonly number[] {
    const cached = cache.get(piece);
    if (cached) return cached;
    const ids = this.#encodeWhole(piece);
    if (cache.size >= CACHED_PIECES) cache.clear();
    // A slice would keep the whole text in memory; joining creates a separate string.
    cache.set(piece.split('').join(''), ids);
    return ids;
  }
}

/** Cuts before every space that follows a visible character. */
function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  for (let space = text.indexOf(' ', 1); space > 0; space = text.indexOf(' ', space + 1)) {
    if (!/\S/.test(text[space - 1]!)) continue;
    pieces.push(text.slice(start, space));
    start = space;
  }
  pieces.push(text.slice(start));
  return pieces;
}

/**
 * Whether cutting before spaces keeps the ids: the pattern must cut there
 * too, NFC never joins a space to what precedes it, and no added token may span that position or strip the space.
 */
function canBeCut(json: TokenizerJson, config: TokenizerConfig): boolean {
  return (
    json.model.type === 'BPE' &&
    !json.model.fuse_unk &&
    cutsAtSpaces(json.pre_tokenizer) &&
    (json.normalizer === null || json.normalizer.type === 'NFC') &&
    json.added_tokens.every((token) => !token.rstrip && !/\S /.test(token.content)) &&
    !config.remove_space &&
    !config.do_lowercase_and_remove_accent
  );
}

/** GPT-2's own pattern, or another one that is known to cut there, applied before the byte mapping. */
function cutsAtSpaces(pre: TokenizerJson['pre_tokenizer']): boolean {
  if (pre?.type === 'ByteLevel') return pre.use_regex !== false;
  const known = SplitByPattern.safeParse(pre);
  return known.success && endsWordsAtSpaces(known.data.pretokenizers[0].pattern.Regex);
}

function highestId({ model: { vocab }, added_tokens: addedTokens }: TokenizerJson): number {
  let highest = Array.isArray(vocab) ? vocab.length - 1 : -1;
  if (!Array.isArray(vocab)) for (const id of Object.values(vocab)) highest = Math.max(highest, id);
  for (const { id } of addedTokens) highest = Math.max(highest, id);
  return highest;
}

/** The longest token in bytes, or Infinity if a token may stand for more than its own text: only byte-level tokenizers preserve the number of bytes. */
function longestToken(json: TokenizerJson): number {
  const { model, normalizer, pre_tokenizer: pre, added_tokens: added } = json;
  const isPlain = model.type === 'BPE' && normalizer === null && pre?.type === 'ByteLevel' && !model.fuse_unk;
  if (
    (!isPlain && !LongestMatch.is(json)) ||
    Array.isArray(model.vocab) ||
    added.some(({ lstrip, rstrip }) => lstrip || rstrip)
  )
    return Infinity;
  let longest = 1;
  // Each byte is one symbol.
  for (const token of Object.keys(model.vocab)) longest = Math.max(longest, token.length);
  for (const { content } of added) longest = Math.max(longest, content.length);
  return longest;
}
