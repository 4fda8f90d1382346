/**
 * Our own family: residual blocks x + mixer(norm(x)) in the order of a pattern. Tensor names:
 * `backbone.{embeddings, layers.N.{norm, mixer}, norm_f}` and `lm_head`.
 */
import {
  attention,
  INITIAL_DEVIATION,
  type Mixer,
  mamba2,
  mlp,
  named,
  norm,
  residual,
  selectiveAttention,
  slidingWindowAttention,
} from '../nn/index.js';
import { attentiveMixer, isAttentive, ropeOf } from './attentive.js';
import { configJson, type ModelConfig, parseConfig } from './config.js';
import { type Family, MAMBA_NAMES } from './families/family.js';
import { modalityOf } from './modalities/index.js';
import { defineModel, type Model } from './model.js';
import { type BlockLetter, parsePattern } from './pattern.js';
import { recurrentMixer } from './recurrent.js';

/** How our own config.json is read. */
export const hybridFamily: Family = {
  modelTypes: ['heddle'],
  read: (json, path) => hybridModel(parseConfig(json, path)),
};

/** The model of a config, without weights. */
export function hybridModel(config: ModelConfig): Model {
  const letters = parsePattern(config.pattern);
  const epsilon = config.normEpsilon;
  return defineModel({
    modelType: config.modelType,
    json: configJson(config),
    pattern: config.pattern,
    vocabSize: config.vocabSize,
    modality: config.input && modalityOf(config.input, config.hiddenSize),
    hiddenSize: config.hiddenSize,
    maxPositionEmbeddings: config.maxPositionEmbeddings,
    eosTokenIds: config.eosTokenId === undefined ? [] : [config.eosTokenId],
    names: MAMBA_NAMES,
    layers: letters.map((letter, index) => ({
      letters: letter,
      mixer: residual([
        norm('norm', { epsilon }),
        named('mixer', mixerOf(letter, config, index, letters.length)),
      ]),
    })),
    finalNorm: { epsilon },
    tieWordEmbeddings: config.tieWordEmbeddings,
  });
}

function mixerOf(letter: BlockLetter, config: ModelConfig, index: number, numBlocks: number): Mixer {
  const { hiddenSize } = config;
  // Every block adds to the residual stream; their outputs start out small enough for the sum to stay in scale.
  const outputDeviation = INITIAL_DEVIATION / Math.sqrt(numBlocks);
  const attentionConfig = {
    hiddenSize,
    numHeads: config.numAttentionHeads,
    numKeyValueHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    rope: ropeOf(config, config.headDim),
    outputDeviation,
  };
  const place = { index, count: numBlocks, outputDeviation };
  if (isAttentive(letter)) return attentiveMixer(letter, config, place);
  switch (letter) {
    case 'M':
      return mamba2({
        hiddenSize,
        numHeads: config.mambaNumHeads,
        headDim: config.mambaHeadDim,
        stateSize: config.ssmStateSize,
        numGroups: config.nGroups,
        convKernel: config.convKernel,
        convBias: config.useConvBias,
        projectionBias: false,
        timeStepLimit: [config.timeStepLimit[0], config.timeStepLimit[1] ?? Number.POSITIVE_INFINITY],
        normGroups: 1,
        normEpsilon: config.normEpsilon,
        outputDeviation,
      });
    case '*':
      return attention(attentionConfig);
    case 'W':
      return slidingWindowAttention({ ...attentionConfig, window: config.attentionWindow });
    case 'S':
      return selectiveAttention({
        ...attentionConfig,
        window: config.attentionWindow,
        selected: config.attentionSelected,
        ...(config.attentionScore && { score: config.attentionScore }),
      });
    case '-':
      return mlp({ hiddenSize, intermediateSize: config.intermediateSize, outputDeviation });
    default:
      return recurrentMixer(letter, config, place);
  }
}
