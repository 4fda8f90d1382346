/**
 * A text that arrives in pieces, for parsers that are written as generators: a parser yields where it needs characters that have
 * not come yet, and goes on when they have. What it decides can depend on the text alone, never on how the text was cut.
 */

/** A part of a parser: yields while it waits for more text. */
export type Step<Result> = Generator<void, Result, void>;

export class Characters {
  private text = '';
  private at = 0;
  /** Everything from here on is kept, so that a parser can go back to it. */
  private kept: number | undefined;
  private ended = false;

  add(piece: string): void {
    const from = this.kept ?? this.at;
    this.text = this.text.slice(from) + piece;
    this.at -= from;
    if (this.kept !== undefined) this.kept = 0;
  }

  /** No more text comes. */
  end(): void {
    this.ended = true;
  }

  /** The character that is so many ahead, without taking it; undefined behind the end of the text. */
  *peek(ahead = 0): Step<string | undefined> {
    while (this.at + ahead >= this.text.length) {
      if (this.ended) return undefined;
      yield;
    }
    return this.text[this.at + ahead];
  }

  /** Takes characters that were seen. */
  take(count = 1): string {
    const taken = this.text.slice(this.at, this.at + count);
    this.at += count;
    return taken;
  }

  /** Takes the characters at hand up to the first of those that the pattern, global or not, finds; at most all that have come. */
  takeUntil(pattern: RegExp): string {
    const rest = this.text.slice(this.at);
    const found = rest.search(pattern);
    return this.take(found < 0 ? rest.length : found);
  }

  /** Whether this word comes next, so many characters ahead. */
  *startsWith(word: string, ahead = 0): Step<boolean> {
    for (let i = 0; i < word.length; i++) {
      if ((yield* this.peek(ahead + i)) !== word[i]) return false;
    }
    return true;
  }

  /** The first of these words that comes next, so many characters ahead; of two that begin alike, the longer should stand first. */
  *oneOf(words: readonly string[], ahead = 0): Step<string | undefined> {
    for (const word of words) if (yield* this.startsWith(word, ahead)) return word;
    return undefined;
  }

  /** How many characters of white space come next, so many characters ahead. */
  *space(ahead = 0): Step<number> {
    for (let count = 0; ; count++) {
      const next = yield* this.peek(ahead + count);
      if (next === undefined || !/\s/.test(next)) return count;
    }
  }

  *skipSpace(): Step<void> {
    this.take(yield* this.space());
  }

  /** Keeps the text from here on, for `back`. */
  keep(): void {
    this.kept = this.at;
  }

  /** Goes back to where the text was last kept. */
  back(): void {
    this.at = this.kept!;
    this.kept = undefined;
  }

  /** The kept text is needed no more. */
  letGo(): void {
    this.kept = undefined;
  }
}
