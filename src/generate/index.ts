/** Running language models. */
export {
  type ChatOpenOptions,
  type ChatOptions,
  type ChatPiece,
  ChatSession,
  type ChatTurn,
  type ToolResult,
} from './chat.js';
export { type Classification, Classifier, type ClassifyOptions } from './classifier.js';
export {
  ConversationFormat,
  type ConversationOptions,
  type LearnableConversation,
  type MessageFormat,
  type ReadableConversation,
} from './conversation.js';
export { type Forecast, Forecaster, SeriesSession } from './forecaster.js';
export {
  checkGeneration,
  type ForkPiece,
  GENERATE_DEFAULTS,
  type GeneratedPiece,
  type GenerateOptions,
  type StopReason,
} from './generation.js';
export { LanguageModel, type Logits } from './language-model.js';
export { END_OF_PARAGRAPH, LineFormat } from './line-format.js';
export { loadFolder } from './load-language-model.js';
export { type LoadedModel, type LoadModelOptions, loadModel, type ModelsByKind } from './load-model.js';
export type { LoadOptions } from './loading.js';
export { logprobsOf, type TokenLogprobs } from './logprobs.js';
export { merged } from './merged.js';
export { PrefixCache, type PrefixCacheOptions } from './prefix-cache.js';
export { PrefixMemory, type PrefixStore } from './prefix-memory.js';
export { decoderPrograms } from './program.js';
export { type Prompt, type PromptOptions, type PromptResult, readPrompt } from './prompt.js';
export { PREFILL_CHUNK } from './runner.js';
export { SAMPLING_DEFAULTS, type SamplingOptions, type Steering } from './sampler.js';
export {
  type ReadOptions,
  type ReadResult,
  Session,
  type SessionOptions,
  type WrittenFork,
} from './session.js';
export { sharedLength } from './shared-length.js';
export { loadSignalModel, SignalModel, SignalSession } from './signal-model.js';
export { loadSnapshot, longestBeginning, Snapshot } from './snapshot.js';
export { sourceTokens } from './source-reader.js';
export type { WriteState } from './state-file.js';
export { StateLibrary } from './states/library.js';
export { openStore } from './states/open-store.js';
export { newStateId, StateId, StateRecord } from './states/record.js';
export type { Store } from './states/store.js';
export { WarmStates } from './states/warm.js';
export { WritingThreads } from './states/writing-threads.js';
export { StopStrings } from './stop.js';
