/**
 * Text to ids and back, by any tokenizer that `@huggingface/tokenizers` reads.
 *
 * A corpus repeats its words, and that library works on each as if for the first time. Under GPT-2's
 * pre-tokenization a space only ever begins a token, unless white space precedes it: no token reaches from a visible
 * character across the space after it. So there the text is cut, and each distinct piece is encoded once. A tokenizer
 * of which this is not known gets the whole text at once.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { TokenizerError } from '../errors.js';
import { END_OF_TEXT } from './bpe.js';
import { TokenStream } from './token-stream.js';
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
  type TokenizerConfig,
  type TokenizerJson,
} from './tokenizer-schema.js';

/** Distinct pieces to remember; a corpus of 10 MB has some 70,000 of them. */
const CACHED_PIECES = 100_000;

export class Tokenizer {
  /** The parsed files that this was made of: `files.config` holds a chat template, if there is one. */
  readonly files: TokenizerFiles;
  /** The highest id + 1. A model may have more rows than that, never fewer. */
  readonly vocabSize: number;
  /** The id that ends a text and separates documents: the config's `eos_token`, else `<|endoftext|>`, if there is one. */
  readonly endOfText: number | undefined;
  readonly #library: LibraryTokenizer;
  /** The ids of pieces seen before; undefined when text must not be cut. */
  readonly #pieces: Map<string, readonly number[]> | undefined;

  /**
   * From parsed files, such as `tokenizerFiles` makes of a trained vocabulary. `folder` is what an error names.
   *
   * Throws `TokenizerError` when they are not those of a tokenizer, or of none that can be read here.
   */
  constructor(files: TokenizerFiles, folder?: string) {
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
    this.vocabSize = highestId(json) + 1;
    this.endOfText = this.tokenToId(endOfTextName(config));
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
   * the end. Half a surrogate pair is read as U+FFFD.
   */
  encode(text: string): number[] {
    if (!this.#pieces) return this.#encodeWhole(text);
    const ids: number[] = [];
    for (const piece of piecesOf(text)) {
      for (const id of this.#encodePiece(piece, this.#pieces)) ids.push(id);
    }
    return ids;
  }

  /** The text of ids exactly as the model wrote it, special tokens by their names. An id without a token (a padding row) says nothing. */
  decode(ids: Iterable<number>): string {
    const known = Array.from(ids).filter((id) => this.#library.id_to_token(id) !== undefined);
    // The library refuses an empty list, and its clean-up would drop spaces.
    return known.length === 0 ? '' : this.#library.decode(known, { clean_up_tokenization_spaces: false });
  }

  /** Decodes token by token, never half a character. */
  stream(): TokenStream {
    return new TokenStream((ids) => this.decode(ids));
  }

  /** The id of a token as the vocabulary spells it, special tokens included. */
  tokenToId(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }

  #encodeWhole(text: string): number[] {
    return this.#library.encode(text, { add_special_tokens: false }).ids;
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
 * Whether the ids stay what they are when the text is cut: of all patterns only GPT-2's own is trusted to cut there
 * too, NFC never joins a space to what precedes it, and no added token may hold that place or take the space away.
 */
function canBeCut(json: TokenizerJson, config: TokenizerConfig): boolean {
  return (
    json.model.type === 'BPE' &&
    !json.model.fuse_unk &&
    json.pre_tokenizer?.type === 'ByteLevel' &&
    json.pre_tokenizer.use_regex !== false &&
    (json.normalizer === null || json.normalizer.type === 'NFC') &&
    json.added_tokens.every((token) => !token.rstrip && !/\S /.test(token.content)) &&
    !config.remove_space &&
    !config.do_lowercase_and_remove_accent
  );
}

function highestId({ model: { vocab }, added_tokens: addedTokens }: TokenizerJson): number {
  let highest = Array.isArray(vocab) ? vocab.length - 1 : -1;
  if (!Array.isArray(vocab)) for (const id of Object.values(vocab)) highest = Math.max(highest, id);
  for (const { id } of addedTokens) highest = Math.max(highest, id);
  return highest;
}

function endOfTextName({ eos_token: token }: TokenizerConfig): string {
  return (typeof token === 'object' ? token?.content : token) ?? END_OF_TEXT;
}
