/** Training language models. */

export { type Evaluation, evaluateModel } from './evaluate.js';
export { ADAMW_DEFAULTS, type AdamWConfig } from './optimizer.js';
export { evaluationProgram, languageModelLoss, type TrainingShape, trainingProgram } from './program.js';
export {
  defaultSequence,
  FINE_TUNING_RATES,
  TRAINING_DEFAULTS,
  type TrainingSettings,
} from './settings.js';
export {
  expectNoRun,
  initialMemory,
  initialWeights,
  type Sample,
  stepsPerRunOn,
  type TrainingEvent,
  type TrainingInput,
  type TrainingResult,
  train,
} from './trainer.js';
