/** Limits the number of concurrent answers. */
import { OverloadedError } from '../errors.js';

/**
 * A semaphore for concurrent answers, with a first-come, first-served queue of limited length. Each acquisition must be released once.
 */
export class Slots {
  private taken = 0;
  private readonly line: { count: number; enter: () => void }[] = [];

  constructor(
    /** The most concurrent answers. */
    private readonly limit: number,
    /** The most requests in the queue. */
    private readonly longest: number,
  ) {}

  get inUse(): number {
    return this.taken;
  }

  get waiting(): number {
    return this.line.length;
  }

  /**
   * Acquires `count` slots, or all slots if there are fewer, in the order of the requests; resolves to the function that releases them. Rejects
   * with `OverloadedError` at once if the queue is full, and with the signal's reason after an abort.
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
