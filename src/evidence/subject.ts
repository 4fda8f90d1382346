/** A design with new weights, of which the cost is measured: values do not decide it. */
import type { Device } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import {
  configJson,
  hybridModel,
  type Model,
  parametersOf,
  parseConfig,
  preset,
  type Size,
  withModelCache,
} from '../models/index.js';
import { idTokenizer } from '../text/index.js';
import { initialWeights } from '../train/index.js';
import { type Keys, parametersIn, siblingOptions } from './siblings.js';

const VOCABULARY = 4096;
/** Heads that share a key. */
const GROUP = 4;

/**
 * A sibling with grouped-query keys, four heads sharing one, and a cache in float16: the transformer that one would use today. The others
 * share their keys alike.
 */
export function costModel(name: string, size: Size, set: Keys = {}): Model {
  const { design, set: own } = siblingOptions(name, size);
  const json = { ...configJson(preset(design, size, VOCABULARY)), ...own, ...set };
  const heads = json.num_attention_heads as number;
  const plain = modelOf(json);
  const grouped = modelOf({ ...json, num_key_value_heads: heads / GROUP });
  // What the fewer keys and values save goes to the MLPs, so that siblings stay of one size.
  const mlps = plain.layers.filter(({ letters }) => letters === '-').length;
  const saved = parametersIn(plain) - parametersIn(grouped);
  const wider = Math.round(saved / mlps / (3 * plain.hiddenSize));
  const intermediate = (json.intermediate_size as number) + wider;
  return withModelCache(modelOf({ ...grouped.json, intermediate_size: intermediate }), 'float16');
}

function modelOf(json: Readonly<Record<string, unknown>>): Model {
  return hybridModel(parseConfig(json, 'the config'));
}

/** It as a language model. */
export async function costSubject(model: Model, device: Device): Promise<LanguageModel> {
  const weights = initialWeights(parametersOf(model), 1);
  return LanguageModel.compile(model, weights, idTokenizer(model.vocabSize, 'evidence'), device);
}
