/** Loads a model of any kind of data, as the class for that kind. */
import { expectOptions } from '../arguments.js';
import { type ModelKind, wrongKind } from '../models/index.js';
import { Classifier } from './classifier.js';
import { Forecaster } from './forecaster.js';
import type { LanguageModel } from './language-model.js';
import { languageModel } from './load-language-model.js';
import { type LoadOptions, loadNamed, type OpenedModel } from './loading.js';

/** The class for each kind of data. */
export interface ModelsByKind {
  text: LanguageModel;
  series: Forecaster;
  images: Classifier;
  sounds: Classifier;
}

/** A loaded model of any kind; its `kind` says which. */
export type LoadedModel = ModelsByKind[ModelKind];

const LOADERS: { readonly [K in ModelKind]: (opened: OpenedModel) => Promise<ModelsByKind[K]> } = {
  text: languageModel,
  series: (opened) => Forecaster.load(opened),
  images: (opened) => Classifier.load(opened),
  sounds: (opened) => Classifier.load(opened),
};

/** `LoadOptions`, and the kinds of data that are accepted. */
export interface LoadModelOptions<K extends ModelKind | 'any' = ModelKind | 'any'> extends LoadOptions {
  /** `text` by default. With `any` or several kinds, the loaded model's `kind` says which it is. */
  kind?: K | readonly K[];
}

/**
 * Loads a model from its folder, from the folder of a training run, or the shipped model by its name, `sotu-hybrid`. A model of `text`
 * becomes a `LanguageModel`, one of `series` a `Forecaster`, one of `images` or `sounds` a `Classifier`. Throws `CheckpointError`,
 * `ConfigError` or `TokenizerError` for files that are missing, damaged or inconsistent, and `ConfigError` for a model of another kind.
 */
export async function loadModel<K extends ModelKind | 'any' = 'text'>(
  name: string,
  options: LoadModelOptions<K> = {},
): Promise<ModelsByKind[K extends 'any' ? ModelKind : K]> {
  expectOptions(options);
  const { kind: asked = 'text', ...own } = options;
  const kinds = [asked].flat() as readonly (ModelKind | 'any')[];
  return loadNamed<LoadedModel>(name, own, async (opened) => {
    const kind = (opened.model.modality?.kind ?? 'text') as ModelKind;
    if (!kinds.includes(kind) && !kinds.includes('any')) throw wrongKind(kind, kinds as ModelKind[]);
    return LOADERS[kind](opened);
  }) as Promise<ModelsByKind[K extends 'any' ? ModelKind : K]>;
}
