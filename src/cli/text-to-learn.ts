/** Texts for `heddle train`: a corpus for next-token prediction, or pairs of texts. */
import type { Model, SourceConfig, SourceGiven } from '../models/index.js';
import { Random } from '../nn/index.js';
import {
  type ChatTemplate,
  type Corpus,
  type CorpusDocument,
  encodeCorpus,
  encodeDocuments,
  pairTemplate,
  readPairs,
  splitCorpus,
  type Tokenizer,
} from '../text/index.js';
import {
  type DataSource,
  type DocumentForm,
  defaultSequence,
  documentData,
  encodePair,
  examplesRead,
  pairData,
  placesRead,
  type TrainingSettings,
  textData,
} from '../train/index.js';
import { say } from './follow-run.js';
import { formatCount } from './format.js';

/** A corpus that is loaded, before it is encoded. */
export interface TextToLearn {
  /** The texts that a new tokenizer is trained on. */
  readonly documents: readonly Pick<CorpusDocument, 'text'>[];
  /** For a corpus of ids, which needs no tokenizer: the vocabulary size that a model must have. */
  readonly vocabSize?: number;
  /** The source of the chat template that asks the model as it is trained, if there is one. */
  readonly chatTemplate?: (tokenizer: Tokenizer) => string;
  /** Whether a model's own chat template, if it has one, is what writes the texts, and `chat` is what asks the model. */
  readonly isConversation?: boolean;
  /** The `source` of a model's config, if it has one. */
  readonly source?: (tokenizer: Tokenizer) => SourceConfig;
  /** Encodes the corpus for a model; `template` writes conversations. Throws `DataError` for data that the model cannot read. */
  encode(
    tokenizer: Tokenizer,
    model: Model,
    template: ChatTemplate | undefined,
  ): EncodedText | Promise<EncodedText>;
}

/** An encoded corpus, with its descriptions for the command. */
export interface EncodedText {
  readonly data: DataSource;
  /** A one-line description. */
  readonly about: string;
  /** Default length of a sequence in tokens. */
  readonly sequence: (model: Model) => number;
  /** The number of epochs of a run. */
  readonly epochs: (settings: TrainingSettings) => number;
  /** The prompt of a sample. */
  readonly prompt: readonly number[];
  /** The source of a sample. */
  readonly source?: { readonly given: SourceGiven; readonly name: string };
  /** The options of `generate` for the hint at the end of a run. */
  readonly example: string;
}

interface SplitOptions {
  readonly validation: number;
  readonly seed: number;
}

/** The length of a sample's prompt, which is taken from the held-out text, in tokens. */
export const SAMPLE_PROMPT = 12;

/** The arrangement of documents, and the held-out share. */
export interface CorpusOptions extends SplitOptions {
  readonly documents: DocumentForm | 'join';
}

/** Splits a corpus by documents. Throws `DataError` for one that is too short to be split. */
export function corpusToLearn(
  corpus: Corpus,
  { validation: fraction, documents: form }: CorpusOptions,
): TextToLearn {
  for (const path of corpus.leftOut) say(`left out    ${path}`);
  const split = splitCorpus(corpus, { validationFraction: fraction });
  return {
    documents: split.training,
    encode(tokenizer) {
      const apart = form !== 'join';
      const encode = (documents: readonly CorpusDocument[]): readonly Int32Array[] =>
        apart ? encodeDocuments(tokenizer, documents) : [encodeCorpus(tokenizer, documents)];
      const [training, validation] = [encode(split.training), encode(split.validation)];
      const count = (all: readonly Int32Array[]): number => all.reduce((sum, { length }) => sum + length, 0);
      const number = apart ? ` in ${formatCount(training.length)} documents` : '';
      return {
        data: apart ? documentData(training, validation, form) : textData(training[0]!, validation[0]!),
        about: `${corpus.name}: ${formatCount(count(training))} tokens${number} to learn from, ${formatCount(count(validation))} held out`,
        sequence: defaultSequence,
        epochs: (settings) => placesRead(settings) / count(training),
        prompt: [...validation[0]!.subarray(0, SAMPLE_PROMPT)],
        example: '--prompt "..."',
      };
    },
  };
}

/** Holds out a random share of the pairs, determined by the seed. */
export async function pairsToLearn(
  path: string,
  { validation: fraction, seed }: SplitOptions,
): Promise<TextToLearn> {
  const pairs = await readPairs(path);
  const { training, validation } = splitPairs(path, pairs, ({ source, target }) => [source, target], {
    validation: fraction,
    seed,
  });
  return {
    documents: training.flatMap(({ source, target }) => [{ text: source }, { text: target }]),
    chatTemplate: pairTemplate,
    encode(tokenizer) {
      const encoded = [training, validation].map((set) => set.map((pair) => encodePair(tokenizer, pair)));
      const [learned, heldOut] = encoded as [(typeof encoded)[0], (typeof encoded)[0]];
      const longest = [...learned, ...heldOut].reduce((most, { tokens }) => Math.max(most, tokens.length), 0);
      const { tokens, prefix } = heldOut[0]!;
      return {
        data: pairData(learned, heldOut),
        about: `${path}: ${formatCount(training.length)} pairs to learn from, ${formatCount(validation.length)} held out; the longest has ${longest} tokens`,
        sequence: () => longest - 1,
        epochs: (settings) => examplesRead(settings) / training.length,
        prompt: [...tokens.subarray(0, prefix)],
        example: '--prompt "..."',
      };
    },
  };
}

/**
 * Holds out a random share of the pairs, at least one, determined by the seed. Warns about likely mistakes: a first line that looks like column
 * names, and held-out pairs whose texts are also in the training set.
 */
export function splitPairs<Pair>(
  path: string,
  pairs: readonly Pair[],
  textsOf: (pair: Pair) => readonly string[],
  { validation: fraction, seed }: SplitOptions,
  noun = 'pairs',
): Record<'training' | 'validation', Pair[]> {
  const order = Array.from(new Random(seed).permutation(pairs.length), (place) => pairs[place]!);
  const held = Math.min(pairs.length - 1, Math.max(1, Math.round(pairs.length * fraction)));
  const [validation, training] = [order.slice(0, held), order.slice(held)];

  const first = textsOf(pairs[0]!);
  if (first.every((text) => COLUMN_NAMES.has(text.toLowerCase())))
    say(
      `note        ${path}, line 1: ${first.map((text) => `'${text}'`).join(' and ')} look like the names of columns, and are learned as a pair: delete the line if they are`,
    );
  const keyOf = (pair: Pair): string => JSON.stringify(textsOf(pair));
  const learned = new Set(training.map(keyOf));
  const repeated = validation.filter((pair) => learned.has(keyOf(pair))).length;
  if (repeated > 0)
    say(
      `note        ${formatCount(repeated)} of ${formatCount(held)} held-out ${noun} ${repeated > 1 ? 'are' : 'is'} also among those to learn from: what the validation loss says of new ${noun} is too good. Delete those that repeat others`,
    );
  return { training, validation };
}

/** Common column names of tables of pairs. */
const COLUMN_NAMES: ReadonlySet<string> = new Set([
  ...['source', 'src', 'target', 'tgt', 'from', 'to', 'input', 'output', 'prompt', 'completion', 'response'],
  ...['question', 'answer', 'text', 'label', 'translation', 'summary', 'document', 'instruction'],
  ...['english', 'german', 'french', 'spanish', 'italian', 'en', 'de', 'fr', 'es', 'it'],
]);
