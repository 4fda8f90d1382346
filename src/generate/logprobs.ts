/** Log probabilities of tokens. */
import { likeliest } from './likeliest.js';

/** Log probabilities, in nats, of a token that was chosen and of the likeliest ones. */
export interface TokenLogprobs {
  /** Of the chosen token, in nats. */
  readonly logprob: number;
  /** The likeliest tokens, likeliest first. */
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

/** Of the chosen token and of the `top` likeliest ones, from logits [vocabulary]. */
export function logprobsOf(logits: Float32Array, id: number, top: number): TokenLogprobs {
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > largest) largest = logits[i]!;
  const shift = largest + Math.log(sumOfShares(logits, largest));
  const of = (token: number): number => logits[token]! - shift;
  return {
    logprob: of(id),
    top: Array.from(likeliest(logits, top), (token) => ({ id: token, logprob: of(token) })),
  };
}

/** Steps of the table in each unit of its argument, and beyond which argument a share counts as none. */
const STEPS = 64;
const MOST = 40;
let powers: Float64Array | undefined;

/**
 * The sum of exp(logit - largest), each to eight digits: a table that stays in the processor's cache, and the beginning of the series for
 * what lies between its steps. For a whole vocabulary it takes a small part of the time that `Math.exp` does.
 */
function sumOfShares(logits: Float32Array, largest: number): number {
  powers ??= Float64Array.from({ length: MOST * STEPS + 1 }, (_, i) => Math.exp(-i / STEPS));
  const table = powers;
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    const below = largest - logits[i]!;
    if (below < MOST) {
      const at = (below * STEPS) | 0;
      const rest = at * (1 / STEPS) - below;
      total += table[at]! * (1 + rest * (1 + rest * (1 / 2 + rest * (1 / 6))));
    } else if (Number.isNaN(below)) return Number.NaN;
  }
  return total;
}
