/**
 * Reading goes slice by slice, and one slice at a time: whoever has more to read waits behind those who came meanwhile, so
 * that a short prompt waits for a slice of each long one, and never for all of it; and between two slices those who write
 * have their runs.
 */
export class Turns {
  private last: Promise<unknown> = Promise.resolve();

  /** Does `work` when those who asked before are done. Throws the signal's reason, and does nothing, where it was aborted meanwhile. */
  take<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const turn = this.last.then(() => {
      signal.throwIfAborted();
      return work();
    });
    this.last = turn.catch(() => {});
    return turn;
  }
}
