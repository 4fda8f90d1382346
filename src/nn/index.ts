/** Layers and mixers, each declaring its own state. */
export { attend, MASKED } from './attend.js';
export * from './layers.js';
export * from './mixer.js';
export { type AttentionConfig, attention } from './mixers/attention.js';
export { type Mamba2Config, mamba2 } from './mixers/mamba2.js';
export {
  type SelectiveAttentionConfig,
  selectiveAttention,
  slidingWindowAttention,
} from './mixers/selective.js';
export * from './parameters.js';
export { Random } from './random.js';
export { type RopeConfig, rotate } from './rope.js';
