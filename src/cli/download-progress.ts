/** Progress of downloads. */
import type { TransferEvent } from '../hub/index.js';
import { formatBytes, formatDuration } from './format.js';

/** The progress of a transfer or of unpacking, in bytes. */
type DownloadEvent =
  | TransferEvent
  | { readonly event: 'unpacking'; readonly name: string; readonly done: number; readonly total: number };

/** Writes a message to standard error. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** The window of the displayed rate, in seconds. */
const RATE_OVER = 10;

/** A live line on a terminal, a plain line every ten seconds elsewhere. */
export class DownloadProgress {
  readonly #live = process.stderr.isTTY === true;
  readonly #timer = setInterval(() => this.#draw(), this.#live ? 200 : 10_000).unref();
  /** The present progress. */
  #now: (DownloadEvent & { event: 'checking' | 'downloading' | 'unpacking' }) | undefined;
  #samples: { at: number; received: number }[] = [];

  show(event: DownloadEvent): void {
    if (event.event === 'mismatch') {
      this.tell(`${event.name} came with the wrong checksum: downloading it once more`);
    } else if (event.event === 'waiting') {
      this.tell(`${event.reason}: trying again in ${formatDuration(event.seconds)}`);
    } else {
      if (this.#samples.length === 0 && event.event === 'downloading') this.#sample(0);
      this.#now = event;
    }
  }

  /** Prints a permanent line. */
  tell(line: string): void {
    this.clear();
    say(line);
  }

  /** Wipes the live line. */
  clear(): void {
    if (this.#live) process.stderr.write('\r\x1b[K');
  }

  /** Ends the display. */
  end(): void {
    clearInterval(this.#timer);
    this.clear();
  }

  #draw(): void {
    if (this.#now === undefined) return;
    const { event, name, done, total } = this.#now;
    let line = `${event} ${name}: ${formatBytes(done)} of ${formatBytes(total)}`;
    if (event === 'downloading') {
      this.#sample(this.#now.received);
      line = `${formatBytes(done)} of ${formatBytes(total)}  ${this.#pace(total - done)}  ${name}`;
    }
    if (this.#live) process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns || 80) - 1)}`);
    else say(line);
  }

  #sample(received: number): void {
    const at = performance.now() / 1000;
    this.#samples.push({ at, received });
    // One sample older than the window is kept as its start.
    while (this.#samples.length > 2 && this.#samples[1]!.at < at - RATE_OVER) this.#samples.shift();
  }

  /** Rate and remaining time. */
  #pace(bytesLeft: number): string {
    const first = this.#samples[0]!;
    const last = this.#samples.at(-1)!;
    const rate = Math.round((last.received - first.received) / (last.at - first.at));
    if (!(rate > 0)) return 'nothing comes at the moment';
    return `${formatBytes(rate)}/s  ${formatDuration(bytesLeft / rate)} left`;
  }
}
