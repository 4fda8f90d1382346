/**
 * Text to ids and back, by any tokenizer that `@huggingface/tokenizers` reads.
 *
 * That library spends a few microseconds on every word. Under GPT-2's pre-tokenization no token reaches across
 * the place between a visible character and a space with a letter after it, so there the text is cut, and each
 * distinct piece is encoded once: a corpus of 10 MB takes one second instead of seven. A tokenizer of which this
 * is not known gets the whole text at once.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { StorageError, TokenizerError } from '../errors.js';
import { END_OF_TEXT } from './bpe.js';
import { TokenStream } from './token-stream.js';
import type { TokenizerFiles } from './tokenizer-json.js';

const component = z.looseObject({ type: z.string() }).nullable();

const TokenizerJson = z.looseObject({
  added_tokens: z.array(
    z.looseObject({
      id: z.int().nonnegative(),
      content: z.string().min(1),
      lstrip: z.boolean().optional(),
      rstrip: z.boolean().optional(),
    }),
  ),
  normalizer: component,
  pre_tokenizer: component,
  post_processor: component,
  decoder: component,
  model: z.looseObject({
    type: z.string().optional(),
    vocab: z.union([z.record(z.string(), z.int().nonnegative()), z.array(z.tuple([z.string(), z.number()]))]),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])).optional(),
    continuing_subword_prefix: z.string().nullish(),
    fuse_unk: z.boolean().nullish(),
  }),
});
type TokenizerJson = z.infer<typeof TokenizerJson>;

const TokenizerConfig = z.looseObject({
  eos_token: z.union([z.string(), z.looseObject({ content: z.string() })]).nullish(),
  remove_space: z.boolean().nullish(),
  do_lowercase_and_remove_accent: z.boolean().nullish(),
});
type TokenizerConfig = z.infer<typeof TokenizerConfig>;

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
   * From parsed files, such as `tokenizerFiles` makes of a trained vocabulary. `origin` is what an error names.
   *
   * Throws `TokenizerError` when they are not those of a tokenizer, or of none that can be read here.
   */
  constructor(files: TokenizerFiles, origin = 'tokenizer.json') {
    const json = valid(TokenizerJson, files.tokenizer, origin);
    const config = valid(TokenizerConfig, files.config, `the tokenizer_config.json of ${origin}`);
    checkMerges(json, origin);
    try {
      this.#library = new LibraryTokenizer(files.tokenizer, files.config);
    } catch (error) {
      throw new TokenizerError(`${origin} is of a kind that cannot be read here: ${messageOf(error)}`, {
        cause: error,
      });
    }
    this.files = files;
    let highest = -1;
    for (const id of this.#library.get_vocab().values()) highest = Math.max(highest, id);
    this.vocabSize = highest + 1;
    this.endOfText = this.tokenToId(endOfTextName(config));
    this.#pieces = canBeCut(json, config) ? new Map() : undefined;
  }

  /**
   * Reads `tokenizer.json` and, where there is one, `tokenizer_config.json` of a folder.
   *
   * Throws `TokenizerError`, with the file's path, for a file that is missing, truncated or not a tokenizer's.
   */
  static async load(folder: string): Promise<Tokenizer> {
    const { join } = await import('node:path');
    const path = join(folder, 'tokenizer.json');
    const tokenizer = await readJson(path);
    if (tokenizer === undefined) {
      throw new TokenizerError(
        `there is no ${path}; put the model's tokenizer.json there, or name the folder that has it`,
      );
    }
    const config = (await readJson(join(folder, 'tokenizer_config.json'))) ?? {};
    return new Tokenizer({ tokenizer, config }, path);
  }

  /** Writes both files into a folder, which is made if need be. Throws `StorageError`. */
  async save(folder: string): Promise<void> {
    const { mkdir } = await import('node:fs/promises');
    const { join } = await import('node:path');
    try {
      await mkdir(folder, { recursive: true });
      await replaceFile(join(folder, 'tokenizer_config.json'), `${JSON.stringify(this.files.config, null, 2)}\n`);
      await replaceFile(join(folder, 'tokenizer.json'), `${JSON.stringify(this.files.tokenizer, null, 2)}\n`);
    } catch (error) {
      throw new StorageError(`the tokenizer cannot be written to ${folder}: ${messageOf(error)}`, { cause: error });
    }
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

  /** The text of ids, special tokens by their names, exactly as encoded. Ids without a token (padding rows) say nothing. */
  decode(ids: Iterable<number>): string {
    const known = Array.from(ids).filter((id) => this.#library.id_to_token(id) !== undefined);
    // The library refuses an empty list; its clean-up would drop spaces that the model wrote.
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
    // A slice would keep the text that it was cut from in memory; joining makes a string of its own.
    cache.set(piece.split('').join(''), ids);
    return ids;
  }
}

function* piecesOf(text: string): Iterable<string> {
  let start = 0;
  for (const { index } of text.matchAll(/(?<=\S) (?=\p{L})/gu)) {
    yield text.slice(start, index);
    start = index;
  }
  if (start < text.length) yield text.slice(start);
}

/**
 * Whether cutting before the space of "x y" leaves the ids as they are: only GPT-2's own pattern is trusted to cut
 * there too, NFC never joins a space to what precedes it, and nothing else may look beyond a word.
 */
function canBeCut(json: TokenizerJson, config: TokenizerConfig): boolean {
  return (
    json.model.type === 'BPE' &&
    !json.model.fuse_unk &&
    json.pre_tokenizer?.type === 'ByteLevel' &&
    json.pre_tokenizer['use_regex'] !== false &&
    (json.normalizer === null || json.normalizer.type === 'NFC') &&
    json.added_tokens.every((token) => !token.lstrip && !token.rstrip && !/\S /u.test(token.content)) &&
    !config.remove_space &&
    !config.do_lowercase_and_remove_accent
  );
}

/** The library drops a token that no id stands for without a word, so text would be lost in silence. */
function checkMerges({ model, added_tokens: addedTokens }: TokenizerJson, origin: string): void {
  if (Array.isArray(model.vocab) || model.continuing_subword_prefix) return;
  const known = new Set([...Object.keys(model.vocab), ...addedTokens.map((token) => token.content)]);
  for (const [rank, merge] of (model.merges ?? []).entries()) {
    const [left = '', right = ''] = typeof merge === 'string' ? merge.split(' ') : merge;
    const unknown = [left, right, left + right].find((token) => !known.has(token));
    if (unknown !== undefined) {
      throw new TokenizerError(
        `merge ${rank} of ${origin} needs the token ${JSON.stringify(unknown)}, which its vocabulary has not; ` +
          'the file was cut or edited: fetch or train it again',
      );
    }
  }
}

function endOfTextName({ eos_token: token }: TokenizerConfig): string {
  return (typeof token === 'object' ? token?.content : token) ?? END_OF_TEXT;
}

function valid<Schema extends z.ZodType>(schema: Schema, value: unknown, origin: string): z.infer<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue?.path.length ? ` (at ${issue.path.join('.')})` : '';
  throw new TokenizerError(
    `${origin} is not a tokenizer's file: ${issue?.message}${where}; fetch it again from where the model came from`,
  );
}

/** The parsed file, or undefined where there is none. */
async function readJson(path: string): Promise<object | undefined> {
  const { readFile } = await import('node:fs/promises');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new TokenizerError(`${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  try {
    return JSON.parse(text) as object;
  } catch (error) {
    throw new TokenizerError(
      `${path} is not JSON, or was cut short (${messageOf(error)}); fetch it again from where the model came from`,
      { cause: error },
    );
  }
}

async function replaceFile(path: string, contents: string): Promise<void> {
  const { rename, rm, writeFile } = await import('node:fs/promises');
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, contents);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
