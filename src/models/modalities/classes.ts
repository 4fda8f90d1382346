/** Telling classes apart: each position says how likely each class is, and the mean of what they say is the answer. */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import type { Tensor } from '../../graph/index.js';
import { linear, type Parameters } from '../../nn/index.js';

/** Names of the classes, in the order of the logits. */
export const classesSchema = z.array(z.string().min(1).max(1024)).min(2).max(100_000);

/** Throws `ConfigError` for two classes of one name. */
export function expectClasses(classes: readonly string[]): void {
  if (new Set(classes).size !== classes.length) throw new ConfigError('input: two classes have one name');
}

/**
 * hidden [batch, positions, hidden] -> `logits` [batch, positions, classes]. The map is linear: the mean of these logits over
 * positions is the map of the mean of the positions.
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
