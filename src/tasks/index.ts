/** Tasks for comparing designs. */
import { ConfigError } from '../errors.js';
import { heartbeat } from './heartbeat.js';
import { IMAGE_TASKS } from './images.js';
import { bookBytes } from './language.js';
import {
  inference,
  inferenceSteps,
  listOps,
  listOpsSteps,
  parity,
  paritySteps,
  s5,
  s5Steps,
  s5Swaps,
} from './reasoning.js';
import { induction, mqar, multiKeyRecall, passkey, phonebook, selectiveCopying } from './recall.js';
import { SERIES_TASKS } from './series.js';
import { spokenDigits, spokenDigitsRaw } from './speech.js';
import type { Task } from './task.js';
import { type TokenTask, tokenTask } from './tokens.js';
import { verses } from './translation.js';
import { wordnetKinds } from './wordnet.js';

export { accuracyOf, answersObjective, examplesOf, HELD_OUT, taskData } from './learn.js';
export { positionsOf, type TaskModelOptions, taskModel } from './model.js';
export { OWN_MAP } from './series.js';
export {
  ACCURACY,
  type Measure,
  type PreparedTask,
  type Score,
  type ScoreOptions,
  scoreText,
  type Task,
  type Trained,
} from './task.js';
export { type Example, type TokenTask, tokenTask } from './tokens.js';
export { bleu, chrF } from './translation-scores.js';

/** The tasks of tokens, whose examples are generated from a seed. */
export const TOKEN_TASKS: readonly TokenTask[] = [
  mqar(8),
  mqar(16),
  mqar(64),
  selectiveCopying,
  induction,
  passkey,
  phonebook,
  multiKeyRecall(8),
  multiKeyRecall(16),
  multiKeyRecall(32),
  multiKeyRecall(16, { rewritten: 8 }),
  multiKeyRecall(16, { marked: false }),
  parity,
  paritySteps,
  s5,
  s5Swaps,
  s5Steps,
  listOps,
  listOpsSteps,
  inference,
  inferenceSteps,
];

/** All tasks, as `heddle task list` prints them. */
export const TASKS: readonly Task[] = [
  ...TOKEN_TASKS.map(tokenTask),
  bookBytes,
  ...IMAGE_TASKS,
  ...SERIES_TASKS,
  spokenDigits,
  spokenDigitsRaw,
  verses,
  heartbeat,
  wordnetKinds(2),
  wordnetKinds(4),
  wordnetKinds(2, { written: true }),
  wordnetKinds(4, { written: true }),
];

/** The task of this name. Throws `ConfigError` for an unknown name. */
export function taskOf(name: string): Task {
  const found = TASKS.find((task) => task.name === name);
  if (found) return found;
  throw new ConfigError(`there is no task '${name}'; there are ${TASKS.map((task) => task.name).join(', ')}`);
}
