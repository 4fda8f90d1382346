/** Determines the form of a corpus: a text, ids, examples in JSON, pairs of texts, or pairs with images or sounds. */
import { ConfigError } from '../errors.js';
import { isJsonFile, loadCorpus, readJsonExamples } from '../text/index.js';
import { conversationsToLearn } from './conversations-to-learn.js';
import { hasIds, type IdOptions, idsToLearn } from './ids-to-learn.js';
import { type SourceOptions, sourceKindOf, sourcesToLearn } from './sources-to-learn.js';
import { type CorpusOptions, corpusToLearn, pairsToLearn, type TextToLearn } from './text-to-learn.js';

/** Without columns to forecast, a TSV file has pairs of texts. */
export function isPairs(path: string): boolean {
  return /\.tsv$/i.test(path);
}

/** `readsSource`: whether the model has a source. */
export async function toLearn(
  path: string,
  readsSource: boolean,
  options: SourceOptions & CorpusOptions & IdOptions,
): Promise<TextToLearn> {
  if (!isPairs(path)) {
    if (readsSource)
      throw new ConfigError(
        `the model reads a source before it writes, and ${path} has none: give a .tsv file of sources and texts`,
      );
    if (await hasIds(path, options)) return idsToLearn(path, options);
    if (!isJsonFile(path)) return corpusToLearn(await loadCorpus(path), options);
    const examples = await readJsonExamples(path);
    if (examples.kind === 'conversations') return conversationsToLearn(path, examples.conversations, options);
    const documents = examples.texts.map((text, i) => ({ name: `${path}, text ${i + 1}`, text }));
    return corpusToLearn({ name: path, documents, leftOut: [] }, options);
  }
  const kind = await sourceKindOf(path);
  if (kind === 'texts' && !readsSource) return pairsToLearn(path, options);
  return sourcesToLearn(path, kind, options);
}
