/** A language model with every kind of block and random weights, small enough to be made for each test. */
import { type HostTensor, openDevice } from '../../engine/index.js';
import { hybridModel, type Model, type ModelConfigInput } from '../../models/index.js';
import { tinyConfig, tinyWeights } from '../../models/testing/tiny.js';
import type { Tokenizer } from '../../text/index.js';
import { tinyTokenizer } from '../../text/testing/tiny.js';
import { LanguageModel } from '../language-model.js';

/** The CPU with one thread, which gives the same bits on every machine. */
export const device = await openDevice('cpu', { threads: 1 });

/** As many tokens as the tiny model has. */
export const tokenizer = tinyTokenizer;

/** A model with random weights, compiled. */
export interface TinyModel {
  readonly model: Model;
  readonly weights: Map<string, HostTensor>;
  readonly language: LanguageModel;
}

/** Compiles a tiny hybrid; `change` overrides keys of its config. */
export async function tinyModel(
  change: Partial<ModelConfigInput> = {},
  options: { tokenizer?: Tokenizer; seed?: number } = {},
): Promise<TinyModel> {
  const model = hybridModel(tinyConfig(change));
  const weights = tinyWeights(model, options.seed);
  const language = await LanguageModel.compile(model, weights, options.tokenizer ?? tokenizer, device);
  return { model, weights, language };
}
