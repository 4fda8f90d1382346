/** What models are asked, to tell designs apart. */
import { ConfigError } from '../errors.js';
import { inference, listOps, parity, s5 } from './reasoning.js';
import { induction, mqar, multiKeyRecall, selectiveCopying } from './recall.js';
import type { Task } from './task.js';

export { accuracyOf, answersObjective, examplesOf, HELD_OUT, taskData } from './learn.js';
export type { Example, Task } from './task.js';

export const TASKS: readonly Task[] = [
  mqar(16),
  mqar(64),
  selectiveCopying,
  induction,
  multiKeyRecall(8),
  multiKeyRecall(16),
  multiKeyRecall(16, 8),
  parity,
  s5,
  listOps,
  ...[2, 4].flatMap((depth) => [inference(depth, false), inference(depth, true)]),
];

/** The task of this name. Throws `ConfigError` for one that there is not. */
export function taskOf(name: string): Task {
  const found = TASKS.find((task) => task.name === name);
  if (found) return found;
  throw new ConfigError(`there is no task '${name}'; there are ${TASKS.map((task) => task.name).join(', ')}`);
}
