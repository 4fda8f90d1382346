/** Running language models. */
export { type ChatOptions, ChatSession, type ChatTurn } from './chat.js';
export { LanguageModel, type LoadOptions, type Logits, loadModel } from './language-model.js';
export type { SamplingOptions } from './sampling.js';
export {
  checkGeneration,
  GENERATE_DEFAULTS,
  type GeneratedPiece,
  type GenerateOptions,
  type Session,
  type StopReason,
} from './session.js';
