/** Running language models. */
export { Batching, type BatchingOptions } from './batching.js';
export { type ChatOptions, ChatSession, type ChatTurn } from './chat.js';
export type { Choosing } from './choice.js';
export { LanguageModel, type LoadOptions, type Logits, loadModel, PREFILL_CHUNK } from './language-model.js';
export { merged } from './merged.js';
export { PrefixCache, type PrefixCacheOptions } from './prefix-cache.js';
export type { SamplingOptions } from './sampling.js';
export {
  checkGeneration,
  type ForkPiece,
  GENERATE_DEFAULTS,
  type GeneratedPiece,
  type GenerateOptions,
  type ReadOptions,
  type ReadResult,
  type Session,
  type SessionOptions,
  type StopReason,
  type WrittenFork,
} from './session.js';
export { sharedLength } from './shared-length.js';
export { loadSnapshot, type Snapshot } from './snapshot.js';
export { StopWatch } from './stop.js';
