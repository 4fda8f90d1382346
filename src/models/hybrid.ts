/**
 * Our own family: residual blocks x + mixer(norm(x)) in the order of a pattern. Tensor names: `backbone.{embeddings, layers.N.{norm, mixer},
 * norm_f}` and `lm_head`; parallel mixers are `mixer.mixers.N` with norms `mixer.norms.N`, and layers with shared weights have the names of
 * the first of them.
 */
import { expectObject } from '../arguments.js';
import { ConfigError } from '../errors.js';
import {
  bothWays,
  initialDeviation,
  type Mixer,
  type NormOptions,
  named,
  norm,
  placed,
  residual,
  sideBySide,
} from '../nn/index.js';
import { ATTENTIVE } from './attentive.js';
import { configJson, type ModelConfig, parseConfig } from './config.js';
import { type Family, MAMBA_NAMES } from './families/family.js';
import { ENCODER_LAYERS } from './layer-letters.js';
import type { Build, LayerPlace } from './letter.js';
import { modalityOf } from './modalities/index.js';
import { defineModel, type Model, type Source } from './model.js';
import {
  type BlockLetter,
  type BothWaysLetter,
  type LayerLetter,
  layerLetters,
  looksAhead,
  type PatternLayer,
  parsePattern,
} from './pattern.js';
import { RECURRENT } from './recurrent.js';
import { type SourceConfig, sourceModality, sourcePositions } from './source.js';
import { TOKEN_WISE } from './token-wise.js';
import { OWN_NORM, type Stage, stagesOf, WHOLE, windowed } from './whole.js';

/** The family of our own config.json. */
export const hybridFamily: Family = {
  modelTypes: ['heddle'],
  read: (json, path) => hybridModel(parseConfig(json, path)),
};

/** The model of a config, without weights. Throws `ConfigError` if its layers do not fit its input. */
export function hybridModel(config: ModelConfig): Model {
  expectObject(config, 'the config is', 'an object');
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

/** The source, with the encoder's layers. */
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
    layers: blocksOf(layers, stages, ENCODER_LAYERS),
    positions: sourcePositions(source),
    isAttended,
  };
}

/** A layer with its norm and residual connection. */
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
  // Every block adds to the residual stream, so their outputs are initialized small enough to keep its scale.
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

/** The mixers of all letters except bidirectional ones, which are composed of the letter in the middle. */
const MIXERS: Readonly<Record<BlockLetter | '<*>', Build<ModelConfig>>> = {
  ...RECURRENT,
  ...ATTENTIVE,
  ...WHOLE,
  ...TOKEN_WISE,
};

function mixerOf(letter: LayerLetter, config: ModelConfig, place: LayerPlace): Mixer {
  if (letter === '<*>' || !isBothWays(letter)) return MIXERS[letter](config, place);
  const inner = letter[1] as BlockLetter;
  const [there, back] = [mixerOf(inner, config, place), mixerOf(inner, config, place)];
  return windowed(bothWays(there, back), config, place);
}

function isBothWays(letter: LayerLetter): letter is BothWaysLetter {
  return letter.startsWith('<');
}
