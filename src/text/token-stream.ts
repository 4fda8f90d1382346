/**
 * Text out of tokens as they are generated. A token may hold a part of a character, which waits for the rest of it: at most
 * three bytes are held back. What can never become a character is U+FFFD at once.
 */

/** Made by `Tokenizer.stream()` for tokens that go on from others: a space that the first of them begins with is kept. */
export interface TokenStream {
  /** Takes the next token; returns the text that is complete with it, often a word, sometimes nothing yet. */
  push(id: number): string;
  /** The text that was held back, with an incomplete character as U+FFFD. The stream then starts anew. */
  end(): string;
}

/** For tokens whose bytes are known. */
export class ByteStream implements TokenStream {
  // A byte order mark is text like any other.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  /** `bytesOf` gives undefined for an id without a token, which says nothing. */
  constructor(private readonly bytesOf: (id: number) => Uint8Array | undefined) {}

  push(id: number): string {
    return this.#decoder.decode(this.bytesOf(id), { stream: true });
  }

  end(): string {
    return this.#decoder.decode();
  }
}

const REPLACEMENT = '\uFFFD';

/** Tokens that may wait for the rest of a character, each of which holds a byte of it or more. */
const MOST_WAITING = 3;

/**
 * For tokens of which only `decode` tells how they read, perhaps by those before them: each is decoded together with those
 * that came just before. An unfinished character decodes to U+FFFD at the end, and only there: that is the sign to wait.
 */
export class DecodedStream implements TokenStream {
  /** The last tokens whose text went out, for the next ones to be read in their light. */
  #said: number[] = [];
  #waiting: number[] = [];

  constructor(private readonly decode: (ids: Iterable<number>) => string) {}

  push(id: number): string {
    // Behind no token of which anything is known, the first reads as it does behind itself: as a word that goes on a text.
    if (this.#said.length === 0) this.#said = [id];
    this.#waiting.push(id);
    const text = this.#waitingText();
    if (text === '') return '';
    if (text.endsWith(REPLACEMENT) && this.#waiting.length <= MOST_WAITING) return '';
    this.#said = this.#waiting;
    this.#waiting = [];
    return text;
  }

  end(): string {
    const text = this.#waitingText();
    this.#said = [];
    this.#waiting = [];
    return text;
  }

  #waitingText(): string {
    return this.decode([...this.#said, ...this.#waiting]).slice(this.decode(this.#said).length);
  }
}
