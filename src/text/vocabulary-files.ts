/**
 * Vocabularies that checkpoints keep in files of their own form, with Python code that reads them in the place of a tokenizer.json.
 * Each is read as the tokenizer.json that says the same: everything else knows of that one form alone.
 */
import { join, readFolder, readText } from '#platform';
import { TokenizerError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';
import type { TokenizerFiles } from './tokenizer-json.js';
import { checkTokenizerConfig, type TokenizerConfig } from './tokenizer-schema.js';

/** Reads one kind from the text of its file. */
export type VocabularyReader = (text: string, path: string, config: TokenizerConfig) => TokenizerFiles;

/** By the files' usual names. */
const READERS: Readonly<Record<string, () => Promise<VocabularyReader>>> = {
  'rwkv_vocab_v20230424.txt': async () => (await import('./rwkv-vocabulary.js')).readRwkvVocabulary,
  'tiktoken.model': async () => (await import('./tiktoken-vocabulary.js')).readTiktoken,
};

/** The files' usual names. */
export const VOCABULARY_FILES: readonly string[] = Object.keys(READERS);

/** The usual name of a file of this name; that of RWKV's may have another date. */
function usualName(name: string): string | undefined {
  if (/^rwkv_vocab\w*\.txt$/.test(name)) return VOCABULARY_FILES[0];
  return VOCABULARY_FILES.find((usual) => usual === name);
}

/** Whether a file of this name is such a vocabulary. */
export function isVocabularyFile(name: string): boolean {
  return usualName(name) !== undefined;
}

/**
 * What a folder's vocabulary stands for; undefined where it has none of these forms. `config` is its tokenizer_config.json, as
 * parsed. Throws `TokenizerError`, which names the file, for one that is damaged or of another kind.
 */
export async function readVocabularyFile(
  folder: string,
  config: object,
): Promise<TokenizerFiles | undefined> {
  const entries = await readFolder(folder).catch(() => []);
  const name = entries.map((entry) => entry.name).find(isVocabularyFile);
  if (name === undefined) return undefined;
  const path = join(folder, name);
  const read = await READERS[usualName(name)!]!();
  const text = await readText(path).catch((error: Error) => {
    throw new TokenizerError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  });
  return read(text, path, checkTokenizerConfig(config, join(folder, 'tokenizer_config.json')));
}
