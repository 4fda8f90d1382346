/** Detects stop strings in streamed text, where one may be split over pieces. */
import { ConfigError } from '../errors.js';

/** Holds back the end of a text while it may be the beginning of a stop string. */
export class StopStrings {
  private held = '';
  /** Whether a stop string was found; no more text is returned then. */
  stopped = false;

  /** Throws `ConfigError` for a stop string that is empty. */
  constructor(private readonly stops: readonly string[]) {
    if (stops.includes(''))
      throw new ConfigError('a stop string is empty: every text would end before it began');
  }

  /** Adds a piece; returns the text that certainly precedes any stop string. */
  push(piece: string): string {
    if (this.stopped) return '';
    this.held += piece;
    const found = this.stops.map((stop) => this.held.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.stopped = true;
      return this.held.slice(0, Math.min(...found));
    }
    const safe = this.held.length - this.pending();
    const text = this.held.slice(0, safe);
    this.held = this.held.slice(safe);
    return text;
  }

  /** Ends the text; returns what was held back. */
  end(): string {
    const text = this.stopped ? '' : this.held;
    this.held = '';
    return text;
  }

  /** The length of the longest suffix of the text that is a prefix of a stop string. */
  private pending(): number {
    for (let length = Math.min(this.held.length, this.longest - 1); length > 0; length--) {
      const end = this.held.slice(-length);
      if (this.stops.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }

  private get longest(): number {
    return Math.max(0, ...this.stops.map(({ length }) => length));
  }
}
