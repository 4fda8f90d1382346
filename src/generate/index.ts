/** Running language models. */
export { LanguageModel, type LoadOptions, type Logits, loadModel } from './language-model.js';
export type { SamplingOptions } from './sampling.js';
export {
  checkGeneration,
  GENERATE_DEFAULTS,
  type GeneratedPiece,
  type GenerateOptions,
  type Session,
} from './session.js';
