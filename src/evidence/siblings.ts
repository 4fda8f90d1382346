/** Four designs of the same size: they differ in what mixes tokens, and the MLPs' widths make up for that. */
import type { Design, Model, Size } from '../models/index.js';
import { type PreparedTask, type TaskModelOptions, taskModel } from '../tasks/index.js';

export const SIBLINGS = ['transformer', 'ssm', 'hybrid-full', 'hybrid-selective'] as const;
export type Sibling = (typeof SIBLINGS)[number];

/** Keys of a config, in the form of config.json. */
export type Keys = Readonly<Record<string, unknown>>;

/** A design by its name: a sibling, or a pattern of layers. */
export function siblingOptions(name: string, size: Size, set: Keys = {}): TaskModelOptions {
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

export function siblingModel(prepared: PreparedTask, name: string, size: Size, set?: Keys): Model {
  return taskModel(prepared, siblingOptions(name, size, set));
}
