/** Layers and mixers, each declaring its own state. */
export { type BatchNormOptions, batchNorm } from './batch-norm.js';
export { CACHE_FORMS, type CacheForm, withCache } from './cache.js';
export * from './compose.js';
export * from './images.js';
export * from './layers.js';
export * from './mixer.js';
export { type AttentionConfig, attention, type HeadMaker, type HeadNorm } from './mixers/attention.js';
export { type ChannelMixConfig, channelMix } from './mixers/channel-mix.js';
export { type ConvolvedHeadsConfig, convolvedHeads } from './mixers/convolved-heads.js';
export { type CrossAttentionConfig, crossAttention, SOURCE, SOURCE_BIAS } from './mixers/cross-attention.js';
export { type DeltaProductConfig, deltaProduct } from './mixers/delta-product.js';
export { fullAttention } from './mixers/full-attention.js';
export {
  type GatedDeltaNetConfig,
  type GatedDeltaNetLayout,
  gatedDeltaNet,
} from './mixers/gated-delta-net.js';
export { type GatedDeltaNet2Config, gatedDeltaNet2 } from './mixers/gdn2.js';
export { type KimiDeltaConfig, kimiDeltaAttention, type Projection } from './mixers/kda.js';
export { type LatentAttentionConfig, latentAttention } from './mixers/latent-attention.js';
export { type LightningConfig, lightningAttention, lightningSlopes } from './mixers/lightning.js';
export {
  DISCRETIZATIONS,
  type Discretization,
  linearSystem,
  type StateMatrix,
  type SystemConfig,
  type TimeInvariantConfig,
  timeInvariant,
} from './mixers/lti.js';
export { type MambaVisionConfig, mambaVision } from './mixers/mamba-vision.js';
export { type Mamba1Config, mamba1 } from './mixers/mamba1.js';
export { type Mamba2Config, mamba2 } from './mixers/mamba2.js';
export { type Mamba3Config, mamba3 } from './mixers/mamba3.js';
export { type QuerySelectionConfig, querySelection } from './mixers/query-selection.js';
export { type RecurrentBlockConfig, recurrentBlock } from './mixers/rg-lru.js';
export { type Rwkv7Config, rwkv7 } from './mixers/rwkv7.js';
export {
  type SelectiveAttentionConfig,
  selectiveAttention,
  slidingWindowAttention,
} from './mixers/selective.js';
export { SCORE_FORMS, type ScoreForm } from './mixers/selective-score.js';
export { type SeparableAttentionConfig, separableAttention } from './mixers/separable-attention.js';
export { type ShortConvolutionConfig, shortConvolution } from './mixers/short-convolution.js';
export { chosenOf, type MixtureConfig, mixtureOfExperts, type Router, type Routing } from './mixture.js';
export * from './parameters.js';
export { Random } from './random.js';
export { type RopeConfig, ropeFrequencies, rotate } from './rope.js';
export * from './sight.js';
