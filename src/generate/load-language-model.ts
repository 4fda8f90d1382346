/** Loads a language model from its files: the weights, and the tokenizer that fits them. */
import { TokenizerError } from '../errors.js';
import { loadTokenizerOrIds } from '../text/index.js';
import { LanguageModel } from './language-model.js';
import { type LoadOptions, loadFrom, type OpenedModel } from './loading.js';

/** Loads a language model from the folder of its files, and its adapter from that of the adapter's files. */
export async function loadFolder(folder: string, options: LoadOptions = {}): Promise<LanguageModel> {
  return loadFrom(folder, options, languageModel);
}

/** A language model from opened files. Throws `TokenizerError` if the tokenizer is missing, or has more tokens than the model. */
export async function languageModel({
  folder,
  model,
  weights,
  device,
  ...options
}: OpenedModel): Promise<LanguageModel> {
  const tokenizer = await loadTokenizerOrIds(folder, model.vocabSize);
  if (tokenizer.vocabSize > model.vocabSize) {
    throw new TokenizerError(
      `the tokenizer of ${folder} has ${tokenizer.vocabSize} tokens, but its model has ${model.vocabSize}: use the one that it was trained with`,
    );
  }
  return LanguageModel.compile(model, weights, tokenizer, device, options);
}
