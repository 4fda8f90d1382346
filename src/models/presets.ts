/**
 * Three siblings of the same size: `transformer` (attention with rotary positions), `ssm` (Mamba-2 alone) and `hybrid`
 * (four Mamba-2 layers for each selective-attention one, no positions). Each layer is a mixer and an MLP; the MLPs'
 * widths make up for the mixers' different numbers of parameters. And three networks of images: `vit` (attention in which all patches
 * see each other), `mambavision` and `vminet` (stages that halve the image).
 */
import { ConfigError } from '../errors.js';
import { type ModelConfig, modelConfig } from './config.js';
import { type ImagesConfig, type ModalityConfig, patchesOf } from './modalities/index.js';
import type { SourceConfig } from './source.js';

/** The three siblings that presets and comparisons are about: the same size, other mixers. */
export const DESIGNS = ['transformer', 'ssm', 'hybrid'] as const;
/** Designs that read whole images: their layers look in all directions. */
export const IMAGE_DESIGNS = ['vit', 'mambavision', 'vminet'] as const;
/** Of texts that are written from something, beside the siblings. */
export const SOURCE_DESIGNS = ['encoder-decoder'] as const;
/** The sizes of presets, from the smallest up. */
export const SIZES = ['nano', 'small', 'base'] as const;
/** One of `DESIGNS`. */
export type Design = (typeof DESIGNS)[number];
/** One of `IMAGE_DESIGNS`. */
export type ImageDesign = (typeof IMAGE_DESIGNS)[number];
/** One of `SOURCE_DESIGNS`. */
export type SourceDesign = (typeof SOURCE_DESIGNS)[number];
/** One of `SIZES`. */
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
    intermediateSize: { transformer: 208, ssm: 104, hybrid: 94 },
  },
  small: {
    hiddenSize: 256,
    layers: 10,
    stateSize: 64,
    maxPositionEmbeddings: 512,
    window: 64,
    selected: 64,
    intermediateSize: { transformer: 512, ssm: 288, hybrid: 268 },
  },
  base: {
    hiddenSize: 512,
    layers: 10,
    stateSize: 64,
    maxPositionEmbeddings: 1024,
    window: 128,
    selected: 128,
    intermediateSize: { transformer: 1136, ssm: 736, hybrid: 680 },
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
    // The scores that most seeds learn with where places are scarce.
    ...(design === 'hybrid' && { attentionScore: 'convolution', attentionScoresWindow: true }),
  });
}

/**
 * The config of a model that writes texts from something else. In a sibling that stands before the text, in one sequence with it; the
 * `encoder-decoder` has a transformer's layers, of which one half reads the source in both directions and the other half attends over
 * what it made.
 */
export function presetAfter(
  design: Design | SourceDesign,
  size: Size,
  vocabSize: number,
  source: SourceConfig,
): ModelConfig {
  if (design !== 'encoder-decoder') return modelConfig({ ...preset(design, size, vocabSize), source });
  const base = preset('transformer', size, vocabSize);
  const half = Math.ceil(SCALES[size].layers / 2);
  return modelConfig({ ...base, pattern: `(*X-)x${half}`, source: { ...source, pattern: `(<*>-)x${half}` } });
}

/** Sizes of the networks of images: the width of the first stage, and how often each part of the pattern comes. */
const IMAGE_SCALES: Record<Size, { width: number; headDim: number; depth: number; vit: number }> = {
  nano: { width: 32, headDim: 16, depth: 1, vit: 96 },
  small: { width: 48, headDim: 24, depth: 2, vit: 192 },
  // The widths and depths of MambaVision-T and ViT-S.
  base: { width: 80, headDim: 40, depth: 4, vit: 384 },
};

/** Sides of the least grid that is halved once more. */
const LEAST_SIDE = 7;

/** The config of a network of images. A small image has fewer stages: places are halved while 7 or more are left on a side. */
function imagePreset(design: ImageDesign, size: Size, input: ImagesConfig): ModelConfig {
  const { width, headDim, depth, vit } = IMAGE_SCALES[size];
  // As vision transformers have them, of which MambaVision takes them over.
  const blocks = { normType: 'layer', mlpType: 'gelu', attentionBias: true } as const;
  const common = { modelType: 'heddle', maxPositionEmbeddings: patchesOf(input) + 1, ...blocks } as const;
  if (design === 'vit') {
    return modelConfig({
      ...common,
      input: { ...input, pool: 'token' },
      hiddenSize: vit,
      pattern: `(<*>-)x${size === 'base' ? 12 : size === 'small' ? 8 : 5}`,
      intermediateSize: 4 * vit,
      normEpsilon: 1e-6,
      numAttentionHeads: vit / 32,
      numKeyValueHeads: vit / 32,
      headDim: 32,
    });
  }
  const side = Math.min(input.height, input.width) / input.patch;
  const halvings = Math.min(3, Math.max(0, Math.floor(Math.log2(side / LEAST_SIDE)) + 1));
  const stages = (last: number): string[] =>
    design === 'vminet'
      ? [`(s)x2`, `(s)x2`, `(s)x${last}`, `(s)x2`]
      : [
          `(c)x1`,
          `(c)x${depth > 1 ? 3 : 1}`,
          `(v-)x${depth}(<*>-)x${depth}`,
          `(v-)x${Math.ceil(depth / 2)}(<*>-)x${Math.ceil(depth / 2)}`,
        ];
  const all = stages({ nano: 2, small: 6, base: 18 }[size]);
  // A network with fewer halvings leaves out the first stage, whose layers see least.
  const used = halvings === 3 ? all : all.slice(3 - halvings);
  return modelConfig({
    ...common,
    input: { ...input, stem: 'convolution' },
    hiddenSize: width,
    pattern: used.join('/'),
    intermediateSize: 4 * width,
    ssmStateSize: 8,
    numAttentionHeads: width / headDim,
    numKeyValueHeads: width / headDim,
    headDim,
  });
}

/**
 * The same for a model of something other than text. A network of images that halves them has a convolutional stem, and its `patch` must be a power
 * of two. Throws `ConfigError` for a network of images that is to read something else.
 */
export function presetOf(design: Design | ImageDesign, size: Size, input: ModalityConfig): ModelConfig {
  if (isImageDesign(design)) {
    if (input.kind !== 'images')
      throw new ConfigError(`the design '${design}' is a network of images, not of ${input.kind}`);
    return imagePreset(design, size, input);
  }
  const {
    vocabSize: _,
    bosTokenId: __,
    eosTokenId: ___,
    architectures: ____,
    ...layers
  } = preset(design, size, 1);
  return modelConfig({ ...layers, input });
}

/** Whether a design is one of images. */
export function isImageDesign(design: string): design is ImageDesign {
  return (IMAGE_DESIGNS as readonly string[]).includes(design);
}

/** The number of positions of an image, if the patch divides its size. */
const MOST_PATCHES = 64;
/** The preferred initial grid side of a network with stages. */
const STAGED_SIDE = 14;

/** The smallest patch with few positions; for a network with stages, which downsample, a small stem. */
export function patchFor({ height, width }: Pick<ImagesConfig, 'height' | 'width'>, design: string): number {
  if (design === 'mambavision' || design === 'vminet')
    return [4, 2, 1].find((side) => Math.min(height, width) / side >= STAGED_SIDE) ?? 1;
  const sides = Array.from({ length: Math.min(height, width) }, (_, i) => i + 1).filter(
    (side) => height % side === 0 && width % side === 0,
  );
  return sides.find((side) => (height / side) * (width / side) <= MOST_PATCHES) ?? sides.at(-1)!;
}
