/** Training of models. */

export type { Augmentation } from './augmentation.js';
export { effectsOfRows } from './calendar-effects.js';
export { classObjective, type ImageDataOptions, imageData, type Labelled, soundData } from './classes.js';
export {
  type BatchLoss,
  type DataSource,
  type ExampleInput,
  type Examples,
  elements,
  type FiniteExamples,
  inputConfigOf,
  type Objective,
  type TrainingData,
} from './data.js';
export { DOCUMENT_FORMS, type DocumentForm, documentData, nextTokensOfDocuments } from './documents.js';
export { initialWeights, stepsPerRunOn } from './equipment.js';
export { type Evaluation, evaluateExamples, evaluateModel, type StepEvaluation } from './evaluate.js';
export type { Sample, TeacherInput, TrainingEvent, TrainingInput, TrainingResult } from './input.js';
export { ADAMW_DEFAULTS, type AdamWConfig, MUON_DEFAULTS, type OptimizerConfig } from './optimizer.js';
export { countedTokens, type EncodedPair, encodeAnswer, encodePair, pairData } from './pairs.js';
export { examplesRead, parsePhases, phasesOf, placesRead, stepsOf, type TrainingPhase } from './phases.js';
export { evaluationProgram, type TrainingShape, trainingProgram } from './program.js';
export { expectNoRun } from './run-folder.js';
export {
  fittedParts,
  quantileObjective,
  type SeriesRows,
  seriesData,
  squaredObjective,
} from './series.js';
export {
  defaultSequence,
  FINE_TUNING_RATES,
  KEEPS,
  type Keep,
  TRAINING_DEFAULTS,
  type TrainingSettings,
} from './settings.js';
export { heldOut, nextTokens, textData, tokenLosses } from './text.js';
export { checkRun, train } from './trainer.js';
