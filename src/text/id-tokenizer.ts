/** The tokenizer of checkpoints without one: a text is a list of ids separated by spaces. */
import { readFolder } from '#platform';
import { Tokenizer } from './tokenizer.js';
import { TOKENIZER_JSON } from './tokenizer-json.js';
import { isVocabularyFile } from './vocabulary-files.js';

/** Files of tokenizers in other formats, with which a checkpoint does have a tokenizer. */
const OTHER_FORMS =
  /^(?:tokenizer(?:_config)?\.(?:model|json)|.*\.tiktoken|spiece\.model|vocab\.(?:json|txt)|merges\.txt)$/;

/**
 * The tokenizer of a folder, or, if it has none in any format, one that reads and writes the ids of a vocabulary of this
 * size: `3 14 15`. Throws as `Tokenizer.load` does.
 */
export async function loadTokenizerOrIds(folder: string, vocabSize: number): Promise<Tokenizer> {
  return (await findTokenizer(folder)) ?? idTokenizer(vocabSize, `${folder} has no ${TOKENIZER_JSON}`);
}

/** The tokenizer of a folder; undefined if it has none in any format. Throws as `Tokenizer.load` does. */
export async function findTokenizer(folder: string): Promise<Tokenizer | undefined> {
  const names = (await readFolder(folder).catch(() => [])).map(({ name }) => name);
  const isThere =
    names.length === 0 || names.some((name) => OTHER_FORMS.test(name) || isVocabularyFile(name));
  return isThere ? Tokenizer.load(folder) : undefined;
}

/** `why` starts the error for a text that is not a list of ids. */
export function idTokenizer(vocabSize: number, why: string): Tokenizer {
  const vocab = Object.fromEntries(Array.from({ length: vocabSize }, (_, id) => [String(id), id]));
  const tokenizer = {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: null,
    decoder: null,
    model: { type: 'WordLevel', vocab },
  };
  const hint = `${why}, so its texts are token ids from 0 to ${vocabSize - 1} with spaces between them, such as 3 14 15`;
  return new Tokenizer({ tokenizer, config: {} }, undefined, hint);
}
