/** Designs with random weights for cost measurements, since the cost does not depend on the values. */
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
/** Query heads that share a key head. */
const GROUP = 4;

/**
 * A sibling with grouped-query attention, four heads per key, and a cache in float16, as in current transformers. The MLPs of all siblings
 * are sized so that each has as many parameters as the transformer without grouped queries.
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

/** A digest that changes with the layers, sizes or the cache format. */
export function costDigest(name: string, size: Size, set: Keys = {}): string {
  return modelDigest(costModel(name, size, set));
}

/**
 * The state after `length` tokens. Growing values are allocated and written, so that they take real memory: pages that are never
 * written take none.
 */
export function filledState(subject: LanguageModel, length: number): State {
  const growing = subject.model.state.filter(({ grows }) => grows !== undefined);
  const values = growing.map((spec): [string, HostTensor] => {
    const value = hostZeros(spec.dtype, stateDims(spec, length));
    // As float16 bits, 1 is the smallest number above 0.
    (value.data as Float32Array | Uint16Array).fill(1);
    return [spec.name, value];
  });
  return subject.newState(new Map(values), length);
}

/** A language model of the design with random weights. */
export async function costSubject(model: Model, device: Device): Promise<LanguageModel> {
  const weights = initialWeights(parametersOf(model), 1);
  return LanguageModel.compile(model, weights, idTokenizer(model.vocabSize, 'evidence'), device);
}
