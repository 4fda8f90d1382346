/** Models for tasks: preset designs with the task's input. */
import {
  configJson,
  type Design,
  hybridModel,
  type Model,
  parseConfig,
  preset,
  presetOf,
  type Size,
} from '../models/index.js';
import type { PreparedTask } from './task.js';

/** The design of a task's model. */
export interface TaskModelOptions {
  readonly design: Design;
  readonly size: Size;
  /** Overrides of the config, in the form of config.json: `pattern`, `attention_selected`. */
  readonly set?: Readonly<Record<string, unknown>>;
}

/**
 * A model for a task, without weights. The head is not tied to the embeddings unless `set` says so: with a tied head, recall of 8 pairs of 64
 * tokens takes several times as many steps, in PyTorch too. Throws `ConfigError` for invalid keys or values.
 */
export function taskModel(
  { reads, sequence }: Pick<PreparedTask, 'reads' | 'sequence'>,
  { design, size, set }: TaskModelOptions,
): Model {
  const config =
    'vocabulary' in reads ? preset(design, size, reads.vocabulary) : presetOf(design, size, reads);
  const json = configJson(config);
  // Examples have no begin or end token.
  for (const key of ['bos_token_id', 'eos_token_id']) delete json[key];
  const changed = { ...json, max_position_embeddings: sequence, tie_word_embeddings: false, ...set };
  return hybridModel(parseConfig(changed, 'the config of the task'));
}
