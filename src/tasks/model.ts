/** Models for tasks: the siblings, with what a task reads in the place of text. */
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

/** Which model is made for a task. */
export interface TaskModelOptions {
  readonly design: Design;
  readonly size: Size;
  /** Other keys of the config, in the form of config.json: `pattern`, `attention_selected`. */
  readonly set?: Readonly<Record<string, unknown>>;
}

/**
 * A model without weights for a task. What it says is not read off the embeddings, unless `set` says so: with the two tied, 8 pairs of 64
 * tokens take several times as many steps to be recalled, in PyTorch too. Throws `ConfigError` for keys or values that cannot be.
 */
export function taskModel(
  { reads, sequence }: Pick<PreparedTask, 'reads' | 'sequence'>,
  { design, size, set }: TaskModelOptions,
): Model {
  const config =
    'vocabulary' in reads ? preset(design, size, reads.vocabulary) : presetOf(design, size, reads);
  const json = configJson(config);
  // Nothing ends a text here.
  for (const key of ['bos_token_id', 'eos_token_id']) delete json[key];
  const changed = { ...json, max_position_embeddings: sequence, tie_word_embeddings: false, ...set };
  return hybridModel(parseConfig(changed, 'the config of the task'));
}
