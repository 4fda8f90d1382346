/**
 * Text out of tokens as they are generated. A token may hold half of a character, and how a token reads may depend
 * on the ones before it, so tokens wait until their text is whole, and are decoded together with those that came
 * just before. An unfinished character decodes to U+FFFD at the end, and only there: that is the sign to wait for.
 */
const REPLACEMENT = '\uFFFD';

/** Made by `Tokenizer.stream()`. All that it returns, joined, is what `decode` makes of all ids at once. */
export class TokenStream {
  readonly #decode: (ids: Iterable<number>) => string;
  /** The last tokens whose text went out, for the next ones to be read in their light. */
  #said: number[] = [];
  #waiting: number[] = [];

  constructor(decode: (ids: Iterable<number>) => string) {
    this.#decode = decode;
  }

  /** Takes the next token; returns the text that is complete with it, often a word, sometimes nothing yet. */
  push(id: number): string {
    this.#waiting.push(id);
    const text = this.#waitingText();
    if (text === '' || text.endsWith(REPLACEMENT)) return '';
    this.#said = this.#waiting;
    this.#waiting = [];
    return text;
  }

  /** What was held back, a character that never became whole as U+FFFD. The stream then starts anew. */
  end(): string {
    const text = this.#waitingText();
    this.#said = [];
    this.#waiting = [];
    return text;
  }

  #waitingText(): string {
    return this.#decode([...this.#said, ...this.#waiting]).slice(this.#decode(this.#said).length);
  }
}
