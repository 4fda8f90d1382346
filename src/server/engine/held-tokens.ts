/**
 * Assigns log probabilities of tokens to offsets in the answer's text. Text may be held back, for the rest of a character or because it may
 * be a stop string; a token is released when some of its text is certain to be in the answer.
 */
import type { TokenStream } from '../../text/index.js';
import type { AnswerToken, ChosenLogprob } from './protocol.js';

/** Holds tokens back until some of their text is part of the answer. */
export class HeldTokens {
  private readonly held: AnswerToken[] = [];
  /** The number of characters of all tokens so far, and of the answer so far. */
  private said = 0;
  private given = 0;

  /** `stream` decodes the tokens as `Session.generate` does before it looks for stop strings. */
  constructor(private readonly stream: TokenStream) {}

  /** Adds a token, and the text of the answer that came with it. Returns the tokens that can be released. */
  push(logprob: ChosenLogprob, text: string): AnswerToken[] {
    this.held.push({ ...logprob, offset: this.said });
    this.said += countCharacters(this.stream.push(logprob.id));
    return this.give(text);
  }

  /** Adds text of the answer. Returns the tokens that can be released. */
  give(text: string): AnswerToken[] {
    this.given += countCharacters(text);
    const whole = this.held.findIndex(({ offset }) => offset >= this.given);
    return this.held.splice(0, whole < 0 ? this.held.length : whole);
  }

  /** Releases the remaining tokens, at the end of an answer that was not ended by a stop string. */
  rest(): AnswerToken[] {
    return this.held.splice(0);
  }
}

/** The number of code points, which OpenAI's API counts offsets in. */
export function countCharacters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
