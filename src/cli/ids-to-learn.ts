/** Corpora of token ids for `heddle train`: texts that were tokenized elsewhere. */
import { Option } from 'commander';
import { joinedArrays } from '../engine/index.js';
import { DataError } from '../errors.js';
import type { Model } from '../models/index.js';
import { ID_FORMS, type IdForm, isOfIds, readIds, splitIds } from '../text/index.js';
import { type DocumentForm, defaultSequence, documentData, placesRead, textData } from '../train/index.js';
import { formatCount } from './format.js';
import { SAMPLE_PROMPT, type TextToLearn } from './text-to-learn.js';

/** The option `--ids`. */
export function idsOption(): Option {
  return new Option(
    '--ids <form>',
    'the corpus has token ids in the place of texts: numbers in a text, a line a document, or numbers of 2 or 4 bytes (a .npy or .bin file, or a folder of such, is known by its name)',
  ).choices(ID_FORMS);
}

/** How a corpus of token ids is read, and the share of it that is held out. */
export interface IdOptions {
  readonly ids?: IdForm;
  readonly validation: number;
}

/** Whether a corpus has ids, by the option or its name. */
export async function hasIds(source: string, { ids }: Pick<IdOptions, 'ids'>): Promise<boolean> {
  return ids !== undefined || isOfIds(source);
}

/** Reads a corpus of token ids to train on. Throws `DataError` for a corpus that cannot be read or split. */
export async function idsToLearn(
  source: string,
  options: IdOptions & { documents: DocumentForm | 'join' },
): Promise<TextToLearn> {
  const corpus = await readIds(source, options.ids);
  return {
    documents: [],
    vocabSize: corpus.highest + 1,
    encode(tokenizer, model) {
      const { training, validation } = splitFor(model, corpus, options.validation);
      const apart = options.documents !== 'join';
      const [learned, heldOut] = [joinedArrays(Int32Array, training), joinedArrays(Int32Array, validation)];
      const prompt = [...validation[0]!.subarray(0, SAMPLE_PROMPT)];
      return {
        data: apart
          ? documentData(training, validation, options.documents as DocumentForm)
          : textData(learned, heldOut),
        about: `${corpus.name}: ${formatCount(learned.length)} token ids in ${training.length === 1 ? 'one document' : `${formatCount(training.length)} documents`} to learn from, ${formatCount(heldOut.length)} held out`,
        sequence: defaultSequence,
        epochs: (settings) => placesRead(settings) / learned.length,
        prompt,
        example: `--prompt ${JSON.stringify(tokenizer.decode(prompt))}`,
      };
    },
  };
}

/** Throws `DataError` for ids outside the model's vocabulary. */
function splitFor(
  { vocabSize, eosTokenIds: [end] }: Model,
  corpus: Awaited<ReturnType<typeof readIds>>,
  fraction: number,
): ReturnType<typeof splitIds> {
  if (corpus.highest >= vocabSize)
    throw new DataError(
      `${corpus.name} has the id ${corpus.highest}, but the model has ${vocabSize} tokens, the ids 0 to ${vocabSize - 1}: use a model with more (--vocab ${corpus.highest + 1})`,
    );
  return splitIds(corpus, fraction, end);
}
