/** Log probabilities with what the tokens say. */
import type { LanguageModel, TokenLogprobs } from '../../generate/index.js';
import type { ChosenLogprob, TokenLogprob } from './protocol.js';

type Describe = (id: number) => Pick<TokenLogprob, 'token' | 'bytes'>;

/** What a token says: its text, and its bytes where the tokenizer tells them. */
export function describer({ tokenizer }: LanguageModel): Describe {
  const vocabulary = tokenizer.vocabularyIfTold;
  return (id) => {
    const token = tokenizer.textOf(id);
    return { token, bytes: Array.from(vocabulary?.bytes[id] ?? new TextEncoder().encode(token)) };
  };
}

/** The log probabilities of a chosen token and of the likeliest ones, with what they say. */
export function chosenLogprob(
  id: number,
  { logprob, top }: TokenLogprobs,
  describe: Describe,
): ChosenLogprob {
  const told = (token: number, value: number): TokenLogprob => ({
    id: token,
    ...describe(token),
    logprob: value,
  });
  return { ...told(id, logprob), top: top.map((each) => told(each.id, each.logprob)) };
}
