/**
 * Vocabularies in other files than tokenizer.json, which the checkpoints' own Python code reads. Each is converted to the
 * equivalent tokenizer.json, so that the other code needs to support only that format.
 */
import { join, readFolder, readText } from '#platform';
import { TokenizerError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';
import type { TokenizerFiles } from './tokenizer-json.js';
import { checkTokenizerConfig, type TokenizerConfig } from './tokenizer-schema.js';

/** A reader of one kind of file. */
export type VocabularyReader = (text: string, path: string, config: TokenizerConfig) => TokenizerFiles;

/** The readers by the files' usual names. */
const READERS: Readonly<Record<string, () => Promise<VocabularyReader>>> = {
  'rwkv_vocab_v20230424.txt': async () => (await import('./rwkv-vocabulary.js')).readRwkvVocabulary,
  'tiktoken.model': async () => (await import('./tiktoken-vocabulary.js')).readTiktoken,
};

/** The files' usual names. */
export const VOCABULARY_FILES: readonly string[] = Object.keys(READERS);

/** The usual name of a vocabulary file; the name of RWKV's has a varying date. */
function usualName(name: string): string | undefined {
  if (/^rwkv_vocab\w*\.txt$/.test(name)) return VOCABULARY_FILES[0];
  return VOCABULARY_FILES.find((usual) => usual === name);
}

/** Whether a file of this name is such a vocabulary. */
export function isVocabularyFile(name: string): boolean {
  return usualName(name) !== undefined;
}

/**
 * The equivalent tokenizer files of a folder's vocabulary; undefined if it has none of these files. `config` is its tokenizer_config.json, as
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
