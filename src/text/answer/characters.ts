/**
 * A text that arrives in pieces, for parsers written as generators: a parser yields when it needs characters that have
 * not arrived yet. Its decisions can depend only on the text, never on how it was split.
 */

/** A part of a parser: yields while it waits for more text. */
export type Parser<Result> = Generator<void, Result, void>;

/** The most white space that a look-ahead crosses. */
const LONGEST_GAP = 100;

/** The characters of an answer that comes in pieces, for a parser that can backtrack. */
export class Characters {
  /** The text that was unread when the last piece arrived; concatenating more for each piece would be slow. */
  private text = '';
  private at = 0;
  /** Pieces read since `keep`, for `back`; undefined if nothing is kept. */
  private kept: string[] | undefined;
  private keptFrom = 0;
  private ended = false;

  add(piece: string): void {
    this.kept?.push(this.text.slice(this.keptFrom, this.at));
    this.text = this.text.slice(this.at) + piece;
    this.at = 0;
    this.keptFrom = 0;
  }

  /** Marks the end of the text. */
  end(): void {
    this.ended = true;
  }

  get isEnded(): boolean {
    return this.ended;
  }

  /** The character `ahead` positions ahead, without consuming it; undefined after the end of the text. */
  *peek(ahead = 0): Parser<string | undefined> {
    while (this.at + ahead >= this.text.length) {
      if (this.ended) return undefined;
      yield;
    }
    return this.text[this.at + ahead];
  }

  /** Consumes characters that were peeked at. */
  take(count = 1): string {
    const taken = this.text.slice(this.at, this.at + count);
    this.at += count;
    return taken;
  }

  /** Consumes the available characters up to the first match of the pattern (global or not), or all of them. */
  takeUntil(pattern: RegExp): string {
    const rest = this.text.slice(this.at);
    const found = rest.search(pattern);
    return this.take(found < 0 ? rest.length : found);
  }

  /** Whether `word` is `ahead` characters ahead. */
  *startsWith(word: string, ahead = 0): Parser<boolean> {
    for (let i = 0; i < word.length; i++) {
      if ((yield* this.peek(ahead + i)) !== word[i]) return false;
    }
    return true;
  }

  /** The first of `words` that is `ahead` characters ahead; a longer word must precede its prefix. */
  *oneOf(words: readonly string[], ahead = 0): Parser<string | undefined> {
    for (const word of words) if (yield* this.startsWith(word, ahead)) return word;
    return undefined;
  }

  /** The number of white space characters, `ahead` characters ahead, at most 100. */
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

  /** Remembers this position, for `back`. */
  keep(): void {
    this.kept = [];
    this.keptFrom = this.at;
  }

  /** Returns to the remembered position. */
  back(): void {
    this.text = this.kept!.join('') + this.text.slice(this.keptFrom);
    this.at = 0;
    this.kept = undefined;
  }

  /** Discards the remembered position. */
  letGo(): void {
    this.kept = undefined;
  }
}

/** A pattern for the characters at which text must be examined: the first characters of marks, and a character class. */
export function stopsOf(marks: readonly string[], signs: string): RegExp {
  const first = [...new Set(marks.map((mark) => mark.codePointAt(0)!))];
  return new RegExp(`[${signs}${first.map((point) => `\\u{${point.toString(16)}}`).join('')}]`, 'u');
}

/** Consumes white space and these characters, up to a mark. */
export function* skip(chars: Characters, signs: string, marks: readonly string[] = []): Parser<void> {
  for (;;) {
    const next = yield* chars.peek();
    if (next === undefined || !(/\s/.test(next) || signs.includes(next))) return;
    if ((yield* chars.oneOf(marks)) !== undefined) return;
    chars.take();
  }
}
