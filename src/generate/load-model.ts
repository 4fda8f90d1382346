/** Loading a model of any kind of data: what it is loaded as depends on what it reads. */
import { type ModelKind, wrongKind } from '../models/index.js';
import { Classifier } from './classifier.js';
import { Forecaster } from './forecaster.js';
import { type LanguageModel, languageModel } from './language-model.js';
import { type LoadOptions, loadNamed, type OpenedModel } from './loading.js';

/** What a model of each kind of data is loaded as. */
export interface ModelsByKind {
  text: LanguageModel;
  series: Forecaster;
  images: Classifier;
  sounds: Classifier;
}

/** A loaded model of any kind of data; its `kind` tells of which. */
export type LoadedModel = ModelsByKind[ModelKind];

const LOADERS: { readonly [K in ModelKind]: (opened: OpenedModel) => Promise<ModelsByKind[K]> } = {
  text: languageModel,
  series: (opened) => Forecaster.load(opened),
  images: (opened) => Classifier.load(opened),
  sounds: (opened) => Classifier.load(opened),
};

/** `LoadOptions`, and the kinds of data of which the model may be. */
export interface LoadModelOptions<K extends ModelKind | 'any' = ModelKind | 'any'> extends LoadOptions {
  /** `text` by default. With `any`, or with several, the `kind` of the loaded model tells of which it is. */
  kind?: K | readonly K[];
}

/**
 * Loads a model: of a folder, of a training run by the run's folder, or the shipped one by its name, `sotu-hybrid`. A model of `text` is a
 * `LanguageModel`, one of `series` a `Forecaster`, one of `images` or `sounds` a `Classifier`. Throws `CheckpointError`, `ConfigError` or
 * `TokenizerError` for what is missing, damaged or does not fit together, and `ConfigError` for a model of another kind than was asked for.
 */
export function loadModel<K extends ModelKind | 'any' = 'text'>(
  name: string,
  options: LoadModelOptions<K> = {},
): Promise<ModelsByKind[K extends 'any' ? ModelKind : K]> {
  const { kind: asked = 'text', ...own } = options;
  const kinds = [asked].flat() as readonly (ModelKind | 'any')[];
  return loadNamed<LoadedModel>(name, own, async (opened) => {
    const kind = (opened.model.modality?.kind ?? 'text') as ModelKind;
    if (!kinds.includes(kind) && !kinds.includes('any')) throw wrongKind(kind, kinds as ModelKind[]);
    return LOADERS[kind](opened);
  }) as Promise<ModelsByKind[K extends 'any' ? ModelKind : K]>;
}
