/**
 * Our own family: residual blocks x + mixer(norm(x)) in the order of a pattern. Tensor names:
 * `backbone.{embeddings, layers.N.{norm, mixer}, norm_f}` and `lm_head`; mixers side by side are `mixer.mixers.N`, normed by
 * `mixer.norms.N`, and layers that share their weights have the names of the first of them.
 */
import {
  attention,
  INITIAL_DEVIATION,
  type Mixer,
  mamba2,
  mixtureOfExperts,
  mlp,
  named,
  norm,
  placed,
  querySelection,
  residual,
  selectiveAttention,
  sideBySide,
  slidingWindowAttention,
} from '../nn/index.js';
import { attentiveMixer, isAttentive, ropeOf } from './attentive.js';
import { configJson, type ModelConfig, parseConfig } from './config.js';
import { type Family, MAMBA_NAMES } from './families/family.js';
import { modalityOf } from './modalities/index.js';
import { defineModel, type Model } from './model.js';
import { type BlockLetter, layerLetters, type PatternLayer, parsePattern } from './pattern.js';
import { type LayerPlace, recurrentMixer } from './recurrent.js';

/** How our own config.json is read. */
export const hybridFamily: Family = {
  modelTypes: ['heddle'],
  read: (json, path) => hybridModel(parseConfig(json, path)),
};

/** The model of a config, without weights. */
export function hybridModel(config: ModelConfig): Model {
  const layers = parsePattern(config.pattern);
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
    layers: layers.map((layer, index) => {
      const block = residual([norm('norm', { epsilon }), named('mixer', layerOf(layers, config, index))]);
      const mixer =
        layer.shares === undefined ? block : placed(`${MAMBA_NAMES.layers}.${layer.shares}`, block);
      return { letters: layerLetters(layer), mixer };
    }),
    finalNorm: { epsilon },
    tieWordEmbeddings: config.tieWordEmbeddings,
  });
}

function layerOf(layers: readonly PatternLayer[], config: ModelConfig, index: number): Mixer {
  const { letters } = layers[index]!;
  const count = layers.length;
  // Every block adds to the residual stream; their outputs start out small enough for the sum to stay in scale.
  const outputDeviation = INITIAL_DEVIATION / Math.sqrt(count);
  const lettersOf = (some: readonly PatternLayer[], letter: BlockLetter): number =>
    some.flatMap(({ letters }) => letters).filter((other) => other === letter).length;
  const mixers = letters.map((letter) => {
    const ofLetter = {
      index: lettersOf(layers.slice(0, index), letter),
      count: lettersOf(layers, letter),
    };
    return mixerOf(letter, config, { index, count, ofLetter, outputDeviation });
  });
  if (mixers.length === 1) return mixers[0]!;
  const initial = outputDeviation * Math.sqrt(config.hiddenSize);
  return sideBySide(mixers, { epsilon: config.normEpsilon, initial });
}

function mixerOf(letter: BlockLetter, config: ModelConfig, place: LayerPlace): Mixer {
  const { hiddenSize } = config;
  const { outputDeviation } = place;
  const attentionConfig = {
    hiddenSize,
    numHeads: config.numAttentionHeads,
    numKeyValueHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    rope: ropeOf(config, config.headDim),
    outputDeviation,
  };
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
        scoresWindow: config.attentionScoresWindow,
      });
    case 'Q':
      return querySelection({
        ...attentionConfig,
        window: config.attentionWindow,
        capacity: config.attentionCapacity ?? 0.15,
        capacityWeight: config.attentionCapacityWeight ?? 0.01,
      });
    case 'E':
      return mixtureOfExperts({
        hiddenSize,
        intermediateSize: config.moeIntermediateSize ?? config.intermediateSize,
        numExperts: config.numExperts ?? 8,
        expertsPerToken: config.numExpertsPerTok ?? Math.min(2, config.numExperts ?? 8),
        activation: 'swiglu',
        routing: { scores: 'softmax', normalized: true },
        names: { router: 'router.weight', input: 'experts.input', output: 'experts.output' },
        outputDeviation,
      });
    case '-':
      return mlp({ hiddenSize, intermediateSize: config.intermediateSize, outputDeviation });
    default:
      return recurrentMixer(letter, config, place);
  }
}
