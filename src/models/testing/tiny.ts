/** A model of a few thousand parameters with every kind of block, for tests. */
import type { HostTensor } from '../../engine/index.js';
import { randomWeights } from '../../nn/testing/weights.js';
import { type ModelConfig, type ModelConfigInput, modelConfig } from '../config.js';
import { type Model, parametersOf } from '../model.js';

/** A config with one layer of each common kind; `change` overrides its keys. */
export function tinyConfig(change: Partial<ModelConfigInput> = {}): ModelConfig {
  return modelConfig({
    modelType: 'heddle',
    vocabSize: 300,
    hiddenSize: 16,
    pattern: 'M-*W-S',
    intermediateSize: 24,
    maxPositionEmbeddings: 32,
    eosTokenId: 0,
    mambaNumHeads: 4,
    mambaHeadDim: 8,
    ssmStateSize: 4,
    nGroups: 2,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    headDim: 4,
    attentionWindow: 5,
    attentionSelected: 6,
    ...change,
  });
}

/** Weights far from those of a new model, whose next tokens would all be as likely. */
export function tinyWeights(model: Model, seed = 1): Map<string, HostTensor> {
  return randomWeights(parametersOf(model), { seed });
}
