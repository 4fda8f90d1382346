/** Four designs of the same size with different mixers; the widths of their MLPs equalize the parameter counts. */
import {
  countParameters,
  type Design,
  isImageDesign,
  type Model,
  parametersOf,
  type Size,
} from '../models/index.js';
import { type PreparedTask, type TaskModelOptions, taskModel } from '../tasks/index.js';

/** Designs of about the same number of parameters that all sections compare. */
export const SIBLINGS = ['transformer', 'ssm', 'hybrid-full', 'hybrid-selective'] as const;
/** The name of one of them. */
export type Sibling = (typeof SIBLINGS)[number];

/** Keys of a config, in the form of config.json. */
export type Keys = Readonly<Record<string, unknown>>;

/** A sibling, or a pattern of layers, as the design that it differs from. */
export function siblingOptions(
  name: string,
  size: Size,
  set: Keys = {},
): TaskModelOptions & { readonly design: Design } {
  const designs: Record<Sibling, Design> = {
    transformer: 'transformer',
    ssm: 'ssm',
    'hybrid-full': 'hybrid',
    'hybrid-selective': 'hybrid',
  };
  const design = (designs as Record<string, Design | undefined>)[name];
  if (design === undefined) return { design: 'hybrid', size, set: { pattern: name, ...set } };
  const full = { pattern: size === 'nano' ? 'M-M-M-M-*-' : '(M-M-M-M-*-)x2' };
  return { design, size, set: { ...(name === 'hybrid-full' && full), ...set } };
}

/**
 * A model for a task, without weights: a sibling, a pattern of layers, or a network of images. The width of a sibling's MLPs is chosen so that
 * it is as large as the transformer.
 */
export function siblingModel(
  prepared: Pick<PreparedTask, 'reads' | 'sequence'>,
  name: string,
  size: Size,
  set: Keys = {},
): Model {
  if (isImageDesign(name)) return taskModel(prepared, { design: name, size, set });
  const plain = taskModel(prepared, siblingOptions(name, size, set));
  const mlps = plain.layers.filter(({ letters }) => letters === '-').length;
  if (!isSibling(name) || mlps === 0) return plain;
  const transformer = taskModel(prepared, siblingOptions('transformer', size, set));
  const missing = parametersIn(transformer) - parametersIn(plain);
  const wider = Math.round(missing / mlps / (3 * plain.hiddenSize));
  const width = (plain.json as { intermediate_size: number }).intermediate_size + wider;
  return taskModel(prepared, siblingOptions(name, size, { ...set, intermediate_size: width }));
}

/** Whether a name is that of a sibling. */
function isSibling(name: string): name is Sibling {
  return (SIBLINGS as readonly string[]).includes(name);
}

/** The number of parameters of a model. */
export function parametersIn(model: Model): number {
  return countParameters(parametersOf(model));
}
