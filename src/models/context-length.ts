/** The lengths of text that a model was made for, and that it is given where nobody says how long they may be. */
import type { Model } from './model.js';

/** For a model of text whose state grows, and whose config does not say what it was made for. */
const USUAL = 32_768;
/** For a model whose state does not grow, which reads texts of any length at one cost. */
const UNBOUNDED = 131_072;

/**
 * The tokens that a model's attention was made to reach; undefined where nothing in its state grows with what it reads, or its config does not
 * say.
 */
export function contextLength({ state, maxPositionEmbeddings }: Model): number | undefined {
  return state.some(({ grows }) => grows !== undefined) ? maxPositionEmbeddings : undefined;
}

/** The tokens of a prompt and its answer that a server accepts by default. */
export function servedContext(model: Model): number {
  const grows = model.state.some(({ grows }) => grows !== undefined);
  return contextLength(model) ?? (grows ? USUAL : UNBOUNDED);
}
