/**
 * Three siblings of the same size: `transformer` (attention with rotary positions), `ssm` (Mamba-2 alone) and `hybrid`
 * (four Mamba-2 layers for each selective-attention one, no positions). Each layer is a mixer and an MLP; the MLPs'
 * widths make up for the mixers' different numbers of parameters.
 */
import { ConfigError } from '../errors.js';
import { type ModelConfig, modelConfig } from './config.js';
import type { ModalityConfig } from './modalities/index.js';

export const DESIGNS = ['transformer', 'ssm', 'hybrid'] as const;
export const SIZES = ['nano', 'small', 'base'] as const;
export type Design = (typeof DESIGNS)[number];
export type Size = (typeof SIZES)[number];

interface Scale {
  hiddenSize: number;
  layers: number;
  stateSize: number;
  maxPositionEmbeddings: number;
  window: number;
  selected: number;
  intermediateSize: Record<Design, number>;
}

const SCALES: Record<Size, Scale> = {
  nano: {
    hiddenSize: 128,
    layers: 5,
    stateSize: 16,
    maxPositionEmbeddings: 128,
    window: 16,
    selected: 16,
    intermediateSize: { transformer: 208, ssm: 104, hybrid: 128 },
  },
  small: {
    hiddenSize: 256,
    layers: 10,
    stateSize: 64,
    maxPositionEmbeddings: 512,
    window: 64,
    selected: 64,
    intermediateSize: { transformer: 512, ssm: 288, hybrid: 336 },
  },
  base: {
    hiddenSize: 512,
    layers: 10,
    stateSize: 64,
    maxPositionEmbeddings: 1024,
    window: 128,
    selected: 128,
    intermediateSize: { transformer: 1136, ssm: 736, hybrid: 816 },
  },
};

/** The config of a sibling. Throws `ConfigError` for a name that is none. */
export function preset(design: Design, size: Size, vocabSize: number): ModelConfig {
  if (!SIZES.includes(size)) throw new ConfigError(`there is no size '${size}': use ${SIZES.join(', ')}`);
  if (!DESIGNS.includes(design))
    throw new ConfigError(`there is no design '${design}': use ${DESIGNS.join(', ')}`);
  const scale = SCALES[size];
  const { hiddenSize, layers } = scale;
  const headDim = hiddenSize >= 256 ? 64 : 32;
  const pattern = {
    transformer: `(*-)x${layers}`,
    ssm: `(M-)x${layers}`,
    hybrid: `(M-M-M-M-S-)x${layers / 5}`,
  }[design];
  return modelConfig({
    modelType: 'heddle',
    architectures: ['HeddleForCausalLM'],
    vocabSize,
    hiddenSize,
    pattern,
    intermediateSize: scale.intermediateSize[design],
    maxPositionEmbeddings: scale.maxPositionEmbeddings,
    bosTokenId: 0,
    eosTokenId: 0,
    mambaNumHeads: (2 * hiddenSize) / headDim,
    mambaHeadDim: headDim,
    ssmStateSize: scale.stateSize,
    numAttentionHeads: hiddenSize / headDim,
    numKeyValueHeads: hiddenSize / headDim,
    headDim,
    ropeTheta: design === 'transformer' ? 10_000 : null,
    attentionWindow: scale.window,
    attentionSelected: scale.selected,
  });
}

/** The same for a model of something other than text. */
export function presetOf(design: Design, size: Size, input: ModalityConfig): ModelConfig {
  const {
    vocabSize: _,
    bosTokenId: __,
    eosTokenId: ___,
    architectures: ____,
    ...layers
  } = preset(design, size, 1);
  return modelConfig({ ...layers, input });
}
