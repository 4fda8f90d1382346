/**
 * A text that arrives in pieces, for parsers that are written as generators: a parser yields where it needs characters that have
 * not come yet, and goes on when they have. What it decides can depend on the text alone, never on how the text was cut.
 */

/** A part of a parser: yields while it waits for more text. */
export type Parser<Result> = Generator<void, Result, void>;

/** More white space is not looked across: what stands behind it belongs to nothing before it. */
const LONGEST_GAP = 100;

/** The characters of an answer that comes in pieces, for a reader that can go back to where it began. */
export class Characters {
  /** What has come and was not taken when the last piece came: to join more than that at each piece would take long. */
  private text = '';
  private at = 0;
  /** Pieces that were taken since `keep`, for `back`; undefined where nothing is kept. */
  private kept: string[] | undefined;
  private keptFrom = 0;
  private ended = false;

  add(piece: string): void {
    this.kept?.push(this.text.slice(this.keptFrom, this.at));
    this.text = this.text.slice(this.at) + piece;
    this.at = 0;
    this.keptFrom = 0;
  }

  /** No more text comes. */
  end(): void {
    this.ended = true;
  }

  get isEnded(): boolean {
    return this.ended;
  }

  /** The character that is so many ahead, without taking it; undefined behind the end of the text. */
  *peek(ahead = 0): Parser<string | undefined> {
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
  *startsWith(word: string, ahead = 0): Parser<boolean> {
    for (let i = 0; i < word.length; i++) {
      if ((yield* this.peek(ahead + i)) !== word[i]) return false;
    }
    return true;
  }

  /** The first of these words that comes next, so many characters ahead; of two that begin alike, the longer should stand first. */
  *oneOf(words: readonly string[], ahead = 0): Parser<string | undefined> {
    for (const word of words) if (yield* this.startsWith(word, ahead)) return word;
    return undefined;
  }

  /** How many characters of white space come next, so many characters ahead; of more than 100, 100. */
  *space(ahead: number): Parser<number> {
    for (let count = 0; count < LONGEST_GAP; count++) {
      const next = yield* this.peek(ahead + count);
      if (next === undefined || !/\s/.test(next)) return count;
    }
    return LONGEST_GAP;
  }

  *skipSpace(): Parser<void> {
    for (let next = yield* this.peek(); next !== undefined && /\s/.test(next); next = yield* this.peek()) {
      this.take();
    }
  }

  /** Keeps the text from here on, for `back`. */
  keep(): void {
    this.kept = [];
    this.keptFrom = this.at;
  }

  /** Goes back to where the text was last kept. */
  back(): void {
    this.text = this.kept!.join('') + this.text.slice(this.keptFrom);
    this.at = 0;
    this.kept = undefined;
  }

  /** The kept text is needed no more. */
  letGo(): void {
    this.kept = undefined;
  }
}

/** What text may not be taken over at once: what a mark begins with, and other signs of a class of characters. */
export function stopsOf(marks: readonly string[], signs: string): RegExp {
  const first = [...new Set(marks.map((mark) => mark.codePointAt(0)!))];
  return new RegExp(`[${signs}${first.map((point) => `\\u{${point.toString(16)}}`).join('')}]`, 'u');
}

/** Takes white space and these signs, up to a mark. */
export function* skip(chars: Characters, signs: string, marks: readonly string[] = []): Parser<void> {
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined || !(/\s/.test(next) || signs.includes(next))) return;
    if ((yield* chars.oneOf(marks)) !== undefined) return;
    chars.take();
  }
}
