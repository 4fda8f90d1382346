/** The classification head: logits at each position, whose mean over positions is the answer. */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import type { Tensor } from '../../graph/index.js';
import { linear, type Parameters } from '../../nn/index.js';

/** The names of the classes, in the order of the logits. */
export const classesSchema = z.array(z.string().min(1).max(1024)).min(2).max(100_000);

/** Throws `ConfigError` for duplicate names. */
export function expectClasses(classes: readonly string[]): void {
  if (new Set(classes).size !== classes.length) throw new ConfigError('input: two classes have one name');
}

/**
 * hidden [batch, positions, hidden] -> `logits` [batch, positions, classes]. The map is linear, so the mean of the logits equals the logits of
 * the mean.
 */
export function classLogits(
  parameters: Parameters,
  hidden: Tensor,
  classes: readonly string[],
): { readonly logits: Tensor } {
  return {
    logits: parameters.within('output', (p) =>
      linear(p, hidden, classes.length, { bias: true, precise: true }),
    ),
  };
}
