/** A design with new weights, of which the cost is measured: values do not decide it. */
import { type Device, type HostTensor, hostZeros, type State, stateDims } from '../engine/index.js';
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
import { modelDigest } from './recipe.js';
import { type Keys, parametersIn, siblingOptions } from './siblings.js';

const VOCABULARY = 4096;
/** Heads that share a key. */
const GROUP = 4;

/**
 * A sibling with grouped-query keys, four heads sharing one, and a cache in float16: the transformer that one would use today. The others
 * share their keys alike, and the MLPs of all are as wide as it takes to be as large as the transformer with keys of its own.
 */
export function costModel(name: string, size: Size, set: Keys = {}): Model {
  const transformer = modelOf(keysOf('transformer', size, set));
  const json = keysOf(name, size, set);
  const grouped = modelOf({ ...json, num_key_value_heads: (json.num_attention_heads as number) / GROUP });
  const mlps = grouped.layers.filter(({ letters }) => letters === '-').length;
  const missing = parametersIn(transformer) - parametersIn(grouped);
  const wider = Math.round(missing / mlps / (3 * grouped.hiddenSize));
  const intermediate = (json.intermediate_size as number) + wider;
  return withModelCache(modelOf({ ...grouped.json, intermediate_size: intermediate }), 'float16');
}

function keysOf(name: string, size: Size, set: Keys): Record<string, unknown> {
  const { design, set: own } = siblingOptions(name, size);
  return { ...configJson(preset(design, size, VOCABULARY)), ...own, ...set };
}

function modelOf(json: Readonly<Record<string, unknown>>): Model {
  return hybridModel(parseConfig(json, 'the config'));
}

/** Tells one from another that has other layers, sizes or a cache of another form. */
export function costDigest(name: string, size: Size, set: Keys = {}): string {
  return modelDigest(costModel(name, size, set));
}

/**
 * A state as it is behind `length` tokens. What grows is allocated and written, so that it takes the memory that it would take had they been
 * read: pages that nobody wrote take none.
 */
export function filledState(subject: LanguageModel, length: number): State {
  const growing = subject.model.state.filter(({ grows }) => grows !== undefined);
  const values = growing.map((spec): [string, HostTensor] => {
    const value = hostZeros(spec.dtype, stateDims(spec, length));
    // In float16 the least number above 0.
    (value.data as Float32Array | Uint16Array).fill(1);
    return [spec.name, value];
  });
  return subject.newState(new Map(values), length);
}

/** It as a language model. */
export async function costSubject(model: Model, device: Device): Promise<LanguageModel> {
  const weights = initialWeights(parametersOf(model), 1);
  return LanguageModel.compile(model, weights, idTokenizer(model.vocabSize, 'evidence'), device);
}
