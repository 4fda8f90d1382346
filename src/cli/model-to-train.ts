/** The model, the tokenizer and the chat template of a run of `heddle train` on texts. */
import { join } from 'node:path';
import { ConfigError } from '../errors.js';
import {
  CHECKPOINT,
  hybridModel,
  isImageDesign,
  type Model,
  modelFolder,
  modelFromConfig,
  preset,
  presetAfter,
  readModel,
} from '../models/index.js';
import {
  type ChatTemplate,
  findTokenizer,
  isPairTemplate,
  Tokenizer,
  tokenizerFiles,
  trainBpe,
} from '../text/index.js';
import type { RunFlags } from './run-flags.js';
import type { TextToLearn } from './text-to-learn.js';

/** The options that say which model is trained, and with which tokenizer. */
export interface ModelFlags extends Pick<RunFlags, 'out' | 'resume' | 'design' | 'size' | 'config'> {
  from?: string;
  tokenizer?: string;
  vocab?: number;
}

/** Tokens of a new tokenizer. */
export const NEW_VOCABULARY = 4096;

/** The tokenizer between the texts and the model: none where the model reads and writes ids. */
export async function tokenizerFor(
  { documents, vocabSize }: TextToLearn,
  options: ModelFlags,
): Promise<Tokenizer | undefined> {
  if (options.from !== undefined) return findTokenizer(modelFolder(options.from));
  if (options.resume) {
    // Reading the config first puts back a checkpoint whose last save was cut off, and says so where there is none.
    await readModel(join(options.out, CHECKPOINT));
    return findTokenizer(join(options.out, CHECKPOINT));
  }
  if (options.tokenizer !== undefined) return Tokenizer.load(modelFolder(options.tokenizer));
  if (vocabSize !== undefined) return undefined;
  const texts = documents.map(({ text }) => text);
  return new Tokenizer(tokenizerFiles(trainBpe(texts, { vocabSize: options.vocab ?? NEW_VOCABULARY })));
}

/**
 * The chat template that asks the model as it is trained: that of pairs for pairs, null for none at all. An existing model keeps its `own` template
 * (undefined), unless that is one of pairs and the corpus is not, or the reverse.
 */
export function chatTemplateFor(
  tokenizer: Tokenizer,
  { chatTemplate, isConversation = false }: TextToLearn,
  own: ChatTemplate | undefined,
): string | null | undefined {
  const ofPairs = chatTemplate !== undefined && !isConversation;
  if (own && isPairTemplate(own) === ofPairs) return undefined;
  return chatTemplate?.(tokenizer) ?? (own && null);
}

/** A new model: of a config, or of a design and a size. Throws `ConfigError` for a design that does not fit the corpus. */
export function modelFor(
  options: ModelFlags,
  text: TextToLearn,
  tokenizer: Tokenizer | undefined,
  config: Record<string, unknown> | undefined,
): Model {
  const { design, size } = options;
  const source = tokenizer && text.source?.(tokenizer);
  // A small text may not yield as many tokens as asked for.
  const vocabSize = tokenizer?.vocabSize ?? options.vocab ?? text.vocabSize!;
  if (config) {
    const given = source && { source: { ...source, ...(config.source as object | undefined) } };
    return modelFromConfig(
      { ...(!tokenizer && { vocab_size: vocabSize }), ...config, ...given },
      options.config!,
    );
  }
  if (isImageDesign(design))
    throw new ConfigError(`the design '${design}' is a network of images, not of text`);
  if (source) return hybridModel(presetAfter(design, size, vocabSize, source));
  if (design === 'encoder-decoder')
    throw new ConfigError(`the design '${design}' writes one text from another: give a .tsv file of pairs`);
  const made = preset(design, size, vocabSize);
  // Which ids begin and end a text only a tokenizer says.
  return hybridModel(tokenizer ? made : { ...made, bosTokenId: undefined, eosTokenId: undefined });
}
