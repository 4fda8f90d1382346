/** How many answers are written at once. */
import { OverloadedError } from '../errors.js';

/**
 * Places for answers that are being written. Who finds none waits in line, as long as that is not too long. What an answer was admitted
 * for must be given back by `release`, once.
 */
export class Slots {
  private taken = 0;
  private readonly line: { count: number; enter: () => void }[] = [];

  constructor(
    /** Answers at once. */
    private readonly limit: number,
    /** Requests that may wait. */
    private readonly longest: number,
  ) {}

  get inUse(): number {
    return this.taken;
  }

  get waiting(): number {
    return this.line.length;
  }

  /**
   * Takes so many places, at most all that there are, in the order in which requests came. Throws `OverloadedError` at once when the
   * line is too long, and later the signal's reason.
   */
  take(count: number, signal: AbortSignal): Promise<() => void> {
    if (count > this.limit) throw new RangeError(`there are ${this.limit} places, and ${count} are wanted`);
    signal.throwIfAborted();
    if (this.line.length > 0 || this.taken + count > this.limit) return this.wait(count, signal);
    this.taken += count;
    return Promise.resolve(this.held(count));
  }

  private held(count: number): () => void {
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.taken -= count;
      this.admit();
    };
  }

  private wait(count: number, signal: AbortSignal): Promise<() => void> {
    if (this.line.length >= this.longest) {
      throw new OverloadedError('this server has as much to do as it takes on: try again soon');
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.line.splice(this.line.indexOf(entry), 1);
        this.admit();
        reject(signal.reason);
      };
      const entry = {
        count,
        enter: () => {
          signal.removeEventListener('abort', leave);
          resolve(this.held(count));
        },
      };
      this.line.push(entry);
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  private admit(): void {
    while (this.line.length > 0 && this.taken + this.line[0]!.count <= this.limit) {
      const { count, enter } = this.line.shift()!;
      this.taken += count;
      enter();
    }
  }
}
