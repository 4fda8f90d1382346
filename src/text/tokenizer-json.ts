/**
 * The two files of a tokenizer in Hugging Face's format. The written files can be read by
 * `@huggingface/tokenizers`, by Python's `tokenizers` and `transformers`, and by converters.
 */
import { join, makeFolder, readText, writeFileAtomic } from '#platform';
import { StorageError, TokenizerError } from '../errors.js';
import { isGguf, readGguf } from '../gguf.js';
import { reasonOf } from '../platform/unreadable.js';
import type { TrainedBpe } from './bpe.js';
import { bpeTokenizer } from './bpe-json.js';
import { addedToken } from './token-table.js';
import { readVocabularyFile } from './vocabulary-files.js';

/** The file of a tokenizer, in the format of Hugging Face's tokenizers. */
export const TOKENIZER_JSON = 'tokenizer.json';
/** The file beside it with the special tokens and the chat template. */
export const TOKENIZER_CONFIG = 'tokenizer_config.json';

/** The contents of `tokenizer.json` and `tokenizer_config.json`, as parsed JSON. */
export interface TokenizerFiles {
  tokenizer: object;
  config: object;
}

/** The files of a trained vocabulary. Its first special token, if it has one, becomes the end of a text. */
export function tokenizerFiles({ vocab, merges, specialTokens }: TrainedBpe): TokenizerFiles {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    tokenizer: bpeTokenizer({
      addedTokens: specialTokens.map((content) => addedToken(vocab.get(content)!, content, true)),
      normalizer: null,
      preTokenizer: byteLevel,
      decoder: byteLevel,
      vocab,
      // All readers support this form of merges, and older ones only this; a byte symbol is never a space.
      merges: merges.map(([left, right]) => `${left} ${right}`),
    }),
    config: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      ...(specialTokens.length > 0 ? { eos_token: specialTokens[0] } : {}),
    },
  };
}

/**
 * Reads both files of a folder, or the equivalent of a vocabulary in another format; without a `tokenizer_config.json` the config is empty.
 *
 * Throws `TokenizerError`, with the file's path, for one that is missing, cannot be read, or is not JSON.
 */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const path = join(folder, TOKENIZER_JSON);
  const [tokenizer, config = {}] = [await readJson(path), await readJson(join(folder, TOKENIZER_CONFIG))];
  if (tokenizer === undefined) {
    const read = await readVocabularyFile(folder, config);
    if (read) return read;
    throw new TokenizerError(
      `there is no ${path}: a model reads and writes text with the tokenizer that it was trained with; put the model's tokenizer.json there`,
    );
  }
  return { tokenizer, config };
}

/** Writes both files into a folder, which is created if it is missing. Throws `StorageError`. */
export async function writeTokenizerFiles(
  folder: string,
  { tokenizer, config }: TokenizerFiles,
): Promise<void> {
  try {
    await makeFolder(folder);
    await writeFileAtomic(join(folder, TOKENIZER_CONFIG), `${JSON.stringify(config, null, 2)}\n`);
    await writeFileAtomic(join(folder, TOKENIZER_JSON), `${JSON.stringify(tokenizer, null, 2)}\n`);
  } catch (error) {
    throw new StorageError(`the tokenizer cannot be written to ${folder}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

const ABSENT: ReadonlySet<unknown> = new Set(['ENOENT', 'ENOTDIR']);

/** The parsed file, or undefined if it does not exist. A GGUF file is treated as a folder with the files of its metadata. */
export async function readJson(path: string): Promise<object | undefined> {
  const [, file, name] = /^(.*\.gguf)[\\/]([^\\/]+)$/i.exec(path) ?? [];
  if (file !== undefined) {
    const { ggufCompanion } = await import('./gguf-tokenizer.js');
    if (await isGguf(file)) return ggufCompanion(await readGguf(file), name!);
  }
  let text: string;
  try {
    text = await readText(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && ABSENT.has(error.code)) return undefined;
    throw new TokenizerError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  try {
    return JSON.parse(text) as object;
  } catch (error) {
    if (text.startsWith('version https://git-lfs'))
      throw new TokenizerError(
        `${path} is a Git LFS pointer, not the file it stands for: run 'git lfs pull' in its folder`,
        { cause: error },
      );
    throw new TokenizerError(
      `${path} is not JSON, or was cut short (${messageOf(error)}); fetch it again from where the model came from`,
      { cause: error },
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
