/** Log probabilities with the texts of their tokens. */
import type { LanguageModel, TokenLogprobs } from '../../generate/index.js';
import type { ChosenLogprob, TokenLogprob } from './protocol.js';

type Describe = (id: number) => Pick<TokenLogprob, 'token' | 'bytes'>;

/** Returns a function that maps a token to its text and bytes. */
export function describer({ tokenizer }: LanguageModel): Describe {
  const vocabulary = tokenizer.byteVocabulary;
  return (id) => {
    const token = tokenizer.textOf(id);
    return { token, bytes: Array.from(vocabulary?.bytes[id] ?? new TextEncoder().encode(token)) };
  };
}

/** The log probabilities of a sampled token and of the most likely ones, with their texts. */
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
