/**
 * Log probabilities of an answer's tokens, each with where its text begins. Text may be held back, for the rest of a
 * character or because it begins a stop string; a token is told when the answer is certain to have some of its text.
 */
import type { TokenStream } from '../../text/index.js';
import type { ChosenLogprob, ToldToken } from './protocol.js';

/** Holds tokens back until their text is part of the answer. */
export class ToldTokens {
  private readonly held: ToldToken[] = [];
  /** Characters that the tokens say, and those of them that the answer has. */
  private said = 0;
  private given = 0;

  /** `stream` gives the text of the tokens as `Session.generate` does, before stop strings are looked for. */
  constructor(private readonly stream: TokenStream) {}

  /** Takes a token, and the text that was given with it. Returns the tokens that can be told. */
  push(logprob: ChosenLogprob, text: string): ToldToken[] {
    this.held.push({ ...logprob, offset: this.said });
    this.said += countCharacters(this.stream.push(logprob.id));
    return this.give(text);
  }

  /** Text that was held back is given. Returns the tokens that can be told. */
  give(text: string): ToldToken[] {
    this.given += countCharacters(text);
    const whole = this.held.findIndex(({ offset }) => offset >= this.given);
    return this.held.splice(0, whole < 0 ? this.held.length : whole);
  }

  /** The tokens that were held back where the answer ended before no stop string. */
  rest(): ToldToken[] {
    return this.held.splice(0);
  }
}

/** Characters as Python counts them, in which OpenAI's interface gives offsets. */
export function countCharacters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
