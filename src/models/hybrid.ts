/**
 * Our own family: residual blocks x + mixer(norm(x)) in the order of a pattern. Tensor names:
 * `backbone.{embeddings, layers.N.{norm, mixer}, norm_f}` and `lm_head`; mixers side by side are `mixer.mixers.N`, normed by
 * `mixer.norms.N`, and layers that share their weights have the names of the first of them.
 */
import { ConfigError } from '../errors.js';
import { gelu } from '../graph/index.js';
import {
  attention,
  bothWays,
  crossAttention,
  fullAttention,
  initialDeviation,
  type Mixer,
  mamba2,
  mixtureOfExperts,
  mlp,
  type NormOptions,
  named,
  norm,
  placed,
  plainMlp,
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
import { defineModel, type Model, type Source } from './model.js';
import {
  type BothWaysLetter,
  type LayerLetter,
  layerLetters,
  looksAhead,
  type PatternLayer,
  parsePattern,
} from './pattern.js';
import { type LayerPlace, recurrentMixer } from './recurrent.js';
import { type SourceConfig, sourceModality, sourcePositions } from './source.js';
import { OWN_NORM, type Stage, stagesOf, wholeMixer, windowed } from './whole.js';

/** How our own config.json is read. */
export const hybridFamily: Family = {
  modelTypes: ['heddle'],
  read: (json, path) => hybridModel(parseConfig(json, path)),
};

/** The model of a config, without weights. Throws `ConfigError` where its layers do not fit what it reads. */
export function hybridModel(config: ModelConfig): Model {
  const layers = parsePattern(config.pattern);
  const modality = config.input && modalityOf(config.input, config.hiddenSize);
  const attends = layers.some(({ letters }) => letters.includes('X'));
  if (attends && !config.source)
    throw new ConfigError(
      `the pattern '${config.pattern}' has 'X', which attends over a source: the config has none`,
    );
  const ahead = layers.find(looksAhead);
  if (ahead && (modality?.kind ?? 'text') !== 'images' && modality?.kind !== 'sounds') {
    throw new ConfigError(
      `the pattern '${config.pattern}' has '${layerLetters(ahead)}', which looks ahead: a model of ${modality?.kind ?? 'text'} goes on from what it has read`,
    );
  }
  const stages = stagesOf(layers, config, modality?.grid);
  return defineModel({
    modelType: config.modelType,
    json: configJson(config),
    pattern: config.pattern,
    vocabSize: config.vocabSize,
    modality,
    source: config.source && sourceOf(config, config.source, attends),
    ...(ahead && { looksAhead: true }),
    hiddenSize: config.hiddenSize,
    maxPositionEmbeddings: config.maxPositionEmbeddings,
    eosTokenIds: config.eosTokenId === undefined ? [] : [config.eosTokenId],
    names: MAMBA_NAMES,
    layers: blocksOf(layers, stages, MAMBA_NAMES.layers),
    finalNorm: normOf(config),
    tieWordEmbeddings: config.tieWordEmbeddings,
  });
}

function blocksOf(
  layers: readonly PatternLayer[],
  stages: readonly Stage<ModelConfig>[],
  names: string,
): Model['layers'] {
  return layers.map((layer, index) => {
    const block = blockOf(layers, stages[index]!, index);
    const mixer = layer.shares === undefined ? block : placed(`${names}.${layer.shares}`, block);
    return { letters: layerLetters(layer), mixer };
  });
}

/** What is read before the text, and the encoder's layers. */
function sourceOf(config: ModelConfig, source: SourceConfig, isAttended: boolean): Source {
  const modality = sourceModality(source, {
    hiddenSize: config.hiddenSize,
    vocabSize: config.vocabSize,
    embeddings: MAMBA_NAMES.embeddings,
    padding: config.eosTokenId,
  });
  const layers = source.pattern === undefined ? [] : parsePattern(source.pattern);
  const wrong = layers.flatMap(({ letters }) => letters).find((letter) => letter === 'X' || letter === '/');
  if (wrong !== undefined)
    throw new ConfigError(
      `the pattern '${source.pattern}' of the source has '${wrong}', which no encoder has`,
    );
  const stages = layers.map(() => ({ config, grid: modality.grid }));
  return {
    modality,
    layers: blocksOf(layers, stages, 'encoder.layers'),
    positions: sourcePositions(source),
    isAttended,
  };
}

/** A layer with its norm and the residual stream around it. */
function blockOf(layers: readonly PatternLayer[], stage: Stage<ModelConfig>, index: number): Mixer {
  const { letters } = layers[index]!;
  const mixer = named('mixer', layerOf(layers, stage, index));
  if (letters.includes('/')) return mixer;
  if (letters.length === 1 && OWN_NORM.includes(letters[0]!)) return residual([mixer]);
  return residual([norm('norm', normOf(stage.config)), mixer]);
}

/** A norm of the residual stream. */
function normOf({ normType, normEpsilon: epsilon }: ModelConfig): NormOptions {
  return normType === 'layer' ? { centered: true, epsilon } : { epsilon };
}

function layerOf(
  layers: readonly PatternLayer[],
  { config, grid }: Stage<ModelConfig>,
  index: number,
): Mixer {
  const { letters } = layers[index]!;
  const count = layers.length;
  // Every block adds to the residual stream; their outputs start out small enough for the sum to stay in scale.
  const outputDeviation = initialDeviation(config.hiddenSize) / Math.sqrt(count);
  const lettersOf = (some: readonly PatternLayer[], letter: LayerLetter): number =>
    some.flatMap(({ letters }) => letters).filter((other) => other === letter).length;
  const mixers = letters.map((letter) => {
    const ofLetter = {
      index: lettersOf(layers.slice(0, index), letter),
      count: lettersOf(layers, letter),
    };
    return mixerOf(letter, config, { index, count, ofLetter, outputDeviation, grid });
  });
  if (mixers.length === 1) return mixers[0]!;
  const initial = outputDeviation * Math.sqrt(config.hiddenSize);
  return sideBySide(mixers, { epsilon: config.normEpsilon, initial });
}

function mixerOf(letter: LayerLetter, config: ModelConfig, place: LayerPlace): Mixer {
  const { hiddenSize } = config;
  const { outputDeviation } = place;
  const attentionConfig = {
    hiddenSize,
    numHeads: config.numAttentionHeads,
    numKeyValueHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    rope: ropeOf(config, config.headDim),
    ...(config.attentionBias && { inputBias: true, outputBias: true }),
    outputDeviation,
  };
  if (isAttentive(letter)) return attentiveMixer(letter, config, place);
  switch (letter) {
    case 'X':
      return crossAttention({
        hiddenSize,
        numHeads: config.numAttentionHeads,
        numKeyValueHeads: config.numKeyValueHeads,
        headDim: config.headDim,
        positions: sourcePositions(config.source!),
        outputDeviation,
      });
    case '<*>':
      return windowed(fullAttention(attentionConfig), config, place);
    case 'v':
    case 's':
    case 'c':
    case '/': {
      const mixer = wholeMixer(letter, config, place);
      return letter === 'v' ? windowed(mixer, config, place) : mixer;
    }
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
      return mlpOf(config, outputDeviation);
    default: {
      if (!isBothWays(letter)) return recurrentMixer(letter, config, place);
      const inner = letter[1] as LayerLetter;
      const [there, back] = [mixerOf(inner, config, place), mixerOf(inner, config, place)];
      return windowed(bothWays(there, back), config, place);
    }
  }
}

function mlpOf({ hiddenSize, intermediateSize, mlpType }: ModelConfig, outputDeviation: number): Mixer {
  const config = { hiddenSize, intermediateSize, outputDeviation };
  return mlpType === 'gelu' ? plainMlp({ ...config, activation: gelu, bias: true }) : mlp(config);
}

function isBothWays(letter: LayerLetter): letter is BothWaysLetter {
  return letter.startsWith('<');
}
