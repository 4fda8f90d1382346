/** Log probabilities of tokens. */
import { likeliest } from './likeliest.js';

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
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i]! - largest);
  const shift = largest + Math.log(total);
  const of = (token: number): number => logits[token]! - shift;
  return {
    logprob: of(id),
    top: Array.from(likeliest(logits, top), (token) => ({ id: token, logprob: of(token) })),
  };
}
