/**
 * Decodes tokens to text while they are generated. A token may have a part of a character, which is held back until the rest
 * arrives: at most three bytes. Bytes that cannot become a character are U+FFFD at once.
 */

/** Created by `Tokenizer.stream()` for tokens that continue a text: a leading space of the first one is kept. */
export interface TokenStream {
  /** Adds a token; returns the text that it completes, which may be empty. */
  push(id: number): string;
  /** The text that was held back, with an incomplete character as U+FFFD. Resets the stream. */
  end(): string;
}

/** The decoder for tokens whose bytes are known. */
export class ByteStream implements TokenStream {
  // A byte order mark is kept as text.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  /** `bytesOf` returns undefined for an id without a token, which gives no text. */
  constructor(private readonly bytesOf: (id: number) => Uint8Array | undefined) {}

  push(id: number): string {
    return this.#decoder.decode(this.bytesOf(id), { stream: true });
  }

  end(): string {
    return this.#decoder.decode();
  }
}

const REPLACEMENT = '\uFFFD';

/** The most tokens that may form one character, each with at least one byte of it. */
const MOST_WAITING = 3;

/**
 * The decoder for tokens whose text may depend on those before them: each is decoded together with the preceding
 * ones. An unfinished character decodes to U+FFFD at the end, and only there, which is the sign to wait.
 */
export class DecodedStream implements TokenStream {
  /** The last emitted tokens, as context for decoding the next ones. */
  #said: number[] = [];
  #waiting: number[] = [];

  constructor(private readonly decode: (ids: Iterable<number>) => string) {}

  push(id: number): string {
    // Without a preceding token, the first token is decoded after itself, as a word inside a text.
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
