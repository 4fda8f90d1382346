/** Log probabilities of tokens. */
import { likeliest } from './likeliest.js';

/** Log probabilities of a sampled token and of the most likely ones, in nats. */
export interface TokenLogprobs {
  /** The log probability of the sampled token. */
  readonly logprob: number;
  /** The most likely tokens, in descending order. */
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

/** Log probabilities of token `id` and of the `top` most likely ones, from logits [vocabulary]. */
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

/** Table entries for each unit of the argument, and the argument beyond which exp() is taken as 0. */
const STEPS = 64;
const MOST = 40;
let powers: Float64Array | undefined;

/**
 * The sum of exp(logit - largest), each term to eight digits: by a table that fits into the processor's cache, and the first terms of the
 * series between its entries. For a whole vocabulary that takes a fraction of the time of `Math.exp`.
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
