/** Training language models. */

export { type Evaluation, evaluateFolder } from './evaluate.js';
export { ADAMW_DEFAULTS, type AdamWConfig } from './optimizer.js';
export { evaluationProgram, languageModelLoss, type TrainingShape, trainingProgram } from './program.js';
export {
  initialWeights,
  TRAINING_DEFAULTS,
  type TrainingEvent,
  type TrainingInput,
  type TrainingResult,
  type TrainingSettings,
  train,
} from './trainer.js';
