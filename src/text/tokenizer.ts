/**
 * Text to ids and back, by any tokenizer that `@huggingface/tokenizers` reads.
 *
 * A corpus repeats its words, and that library works on each as if for the first time. Under GPT-2's
 * pre-tokenization and those made after it a space only ever begins a token, unless white space precedes it: no token reaches from a
 * visible character across the space after it. So there the text is cut, and each distinct piece is encoded once. A tokenizer
 * of which this is not known gets the whole text at once.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { DataError, TokenizerError } from '../errors.js';
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

/** Distinct pieces to remember; a corpus of 10 MB has some 70,000 of them. */
const CACHED_PIECES = 100_000;

/** Texts as tokens, and back, by a tokenizer.json. */
export class Tokenizer {
  /** The parsed files that this was made of: `files.config` holds a chat template, if there is one. */
  readonly files: TokenizerFiles;
  /** The highest id + 1. A model may have more rows than that, never fewer. */
  readonly vocabSize: number;
  /** The id that ends a text and separates documents: the config's `eos_token`, else `<|endoftext|>`, if there is one. */
  readonly endOfText: number | undefined;
  /** The ids that stand before a text that begins a sequence, such as `<s>`: those that the model was trained to see there. */
  readonly beginning: readonly number[];
  /** The names of tokens with a meaning of their own, which are no part of a text. */
  readonly controlTokens: readonly string[];
  #vocabulary: Vocabulary | null | undefined;
  readonly #library: LibraryTokenizer;
  readonly #longestMatch: LongestMatch | undefined;
  /** The ids of pieces seen before; undefined when text must not be cut. */
  readonly #pieces: Map<string, readonly number[]> | undefined;
  #longestToken: number | undefined;

  /**
   * From parsed files, such as `tokenizerFiles` makes of a trained vocabulary. `folder` is what an error names, `hint` what
   * is said about a text that has no tokens.
   *
   * Throws `TokenizerError` when they are not those of a tokenizer, or of none that can be read here.
   */
  constructor(
    files: TokenizerFiles,
    folder?: string,
    private readonly hint?: string,
  ) {
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

  /** Writes both files into a folder, which is made if need be. Throws `StorageError`. */
  save(folder: string): Promise<void> {
    return writeTokenizerFiles(folder, this.files);
  }

  /**
   * The ids of a text. A special token's name in the text becomes that token; none is added at the beginning or
   * the end. Half a surrogate pair is read as U+FFFD. Throws `DataError` for something that is not a string.
   */
  encode(text: string): number[] {
    if (typeof text !== 'string') throw new DataError(`the text is ${String(text)}: expected a string`);
    if (!this.#pieces) return this.#encodeWhole(text);
    const ids: number[] = [];
    for (const piece of piecesOf(text)) {
      for (const id of this.#encodePiece(piece, this.#pieces)) ids.push(id);
    }
    return ids;
  }

  /** The ids of a text that begins a sequence: `beginning`, unless the text says it itself, and those of the text. */
  encodeFromStart(text: string): number[] {
    return this.fromStart(this.encode(text));
  }

  /** Ids that begin a sequence: `beginning`, unless they begin with it, and they themselves. */
  fromStart(ids: number[]): number[] {
    const { beginning } = this;
    return beginning.every((id, i) => ids[i] === id) ? ids : [...beginning, ...ids];
  }

  /** What the tokenizer puts before the first token of a text, as far as its files say. */
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

  /** How many tokens a text has at least, without looking into it; 0 where that cannot be told. */
  leastTokens(text: string): number {
    this.#longestToken ??= longestToken(this.files.tokenizer as TokenizerJson);
    // A character has a byte at least.
    return Math.ceil(text.length / this.#longestToken);
  }

  /** The text of ids exactly as the model wrote it, special tokens by their names. An id without a token (a padding row) gives no text. Throws `DataError` for something that is not a list. */
  decode(ids: Iterable<number>): string {
    if (typeof ids?.[Symbol.iterator] !== 'function')
      throw new DataError(`the tokens are ${String(ids)}: expected a list of numbers`);
    const known = Array.from(ids).filter((id) => this.#library.id_to_token(id) !== undefined);
    // The library refuses an empty list, and its clean-up would drop spaces.
    return known.length === 0 ? '' : this.#library.decode(known, { clean_up_tokenization_spaces: false });
  }

  /** Decodes tokens that go on from others, one by one, never half a character. */
  stream(): TokenStream {
    const vocabulary = this.byteVocabulary;
    return vocabulary
      ? new ByteStream((id) => vocabulary.bytes[id])
      : new DecodedStream((ids) => this.decode(ids));
  }

  /**
   * What a token says behind others. One that holds a part of a character is told by its bytes, as `bytes:\\xe9\\xaf`, which
   * is how OpenAI's interface tells it.
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

  /** The bytes of each token, where the tokenizer is of a kind that tells them; made once, when it is first asked for. */
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
    // The library gives no id for what is not in a vocabulary without a token for the unknown.
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
    // A slice would keep the whole text that it was cut from in memory; joining makes a string of its own.
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
 * Whether the ids stay what they are when the text is cut: the pattern must cut there
 * too, NFC never joins a space to what precedes it, and no added token may hold that place or take the space away.
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

/** GPT-2's own pattern, or one that is known to cut there too, before bytes become characters. */
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

/** In bytes, or Infinity where a token may stand for more than its own text: only bytes that are taken as they are keep their number. */
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
