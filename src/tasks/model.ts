/** Models for tasks: preset designs with the task's input. */
import { ConfigError } from '../errors.js';
import {
  configJson,
  type Design,
  hybridModel,
  type ImageDesign,
  type ImagesConfig,
  isImageDesign,
  type ModalityConfig,
  type Model,
  parseConfig,
  patchesOf,
  patchFor,
  preset,
  presetOf,
  type Size,
} from '../models/index.js';
import type { PreparedTask } from './task.js';

/** The design of a task's model. */
export interface TaskModelOptions {
  readonly design: Design | ImageDesign;
  readonly size: Size;
  /**
   * Overrides of the config, in the form of config.json: `pattern`, `attention_selected`. Keys of `input`, such as `stem`, override those of the
   * task's input.
   */
  readonly set?: Readonly<Record<string, unknown>>;
}

/**
 * A model for a task, without weights. The head is not tied to the embeddings unless `set` says so: with a tied head, recall of 8 pairs of 64
 * tokens takes several times as many steps, in PyTorch too. Networks of images have the patch size that suits their stages. Throws `ConfigError`
 * for invalid keys or values.
 */
export function taskModel(
  { reads, sequence }: Pick<PreparedTask, 'reads' | 'sequence'>,
  { design, size, set }: TaskModelOptions,
): Model {
  const common = { tie_word_embeddings: false, ...set };
  if ('vocabulary' in reads) {
    if (isImageDesign(design))
      throw new ConfigError(`the design '${design}' is a network of images, not of tokens`);
    const json = configJson(preset(design, size, reads.vocabulary));
    // Examples have no begin or end token.
    for (const key of ['bos_token_id', 'eos_token_id']) delete json[key];
    return modelOf({ ...json, max_position_embeddings: sequence, ...common });
  }
  const own = (set?.input ?? {}) as Partial<ImagesConfig>;
  const patch = reads.kind === 'images' && isImageDesign(design) ? { patch: patchFor(reads, design) } : {};
  const input = { ...reads, ...patch, ...own } as ModalityConfig;
  const json = configJson(presetOf(design, size, input));
  const positions = isImageDesign(design) ? {} : { max_position_embeddings: positionsIn(input, sequence) };
  return modelOf({ ...json, ...positions, ...common, input: { ...(json.input as object), ...own } });
}

function modelOf(json: Readonly<Record<string, unknown>>): Model {
  return hybridModel(parseConfig(json, 'the config of the task'));
}

/** The positions of an example: the patches of an image, otherwise the sequence length of the task. */
export function positionsOf({ json }: Model, sequence: number): number {
  return positionsIn((json as { input?: ModalityConfig }).input, sequence);
}

function positionsIn(input: ModalityConfig | undefined, sequence: number): number {
  return input?.kind === 'images' ? patchesOf(input) : sequence;
}
