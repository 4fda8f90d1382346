/** Log probabilities of tokens, with what the tokens say. */
import type { LanguageModel } from '../../generate/index.js';
import type { Vocabulary } from '../../text/index.js';
import type { ChosenLogprob, TokenLogprob } from './protocol.js';

/** Of the chosen token and of the `top` likeliest ones, likeliest first, from logits [vocabulary]. */
export function logprobsOf(
  logits: Float32Array,
  id: number,
  top: number,
  describe: (id: number) => Pick<TokenLogprob, 'token' | 'bytes'>,
): ChosenLogprob {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
  const shift = largest + Math.log(total);
  const told = (token: number): TokenLogprob => ({
    id: token,
    ...describe(token),
    logprob: logits[token]! - shift,
  });
  return { ...told(id), top: likeliest(logits, top).map(told) };
}

function likeliest(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  if (count === 0) return best;
  for (const [id, logit] of logits.entries()) {
    if (best.length === count && logit <= logits[best.at(-1)!]!) continue;
    const place = best.findIndex((other) => logits[other]! < logit);
    best.splice(place < 0 ? best.length : place, 0, id);
    best.length = Math.min(best.length, count);
  }
  return best;
}

/** What a token says: its text, and its bytes where the tokenizer tells them. */
export function describer(
  { tokenizer }: LanguageModel,
  vocabulary: Vocabulary | undefined,
): (id: number) => Pick<TokenLogprob, 'token' | 'bytes'> {
  return (id) => {
    const token = tokenizer.textOf(id);
    return { token, bytes: Array.from(vocabulary?.bytes[id] ?? new TextEncoder().encode(token)) };
  };
}
