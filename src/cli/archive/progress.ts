/** Progress of long work: one line that changes on a terminal, and a line every ten seconds elsewhere. */
import { visible } from '../../checkpoint/index.js';

/** One line of progress on standard error, which the next one replaces. */
export class ProgressLine {
  private readonly live = process.stderr.isTTY === true;
  private last = performance.now();

  /** Shows what `line` gives, unless it is too soon for that. */
  show(line: () => string): void {
    const now = performance.now();
    if (now - this.last < (this.live ? 100 : 10_000)) return;
    this.last = now;
    const text = visible(line());
    const width = process.stderr.columns ?? 80;
    process.stderr.write(this.live ? `\r\x1b[K${text.slice(0, width - 1)}` : `${text}\n`);
  }

  /** Writes a line that stays. */
  say(line: string): void {
    process.stderr.write(`${this.live ? '\r\x1b[K' : ''}${visible(line)}\n`);
  }

  clear(): void {
    if (this.live) process.stderr.write('\r\x1b[K');
  }
}
