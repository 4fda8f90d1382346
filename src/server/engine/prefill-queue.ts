/**
 * A fair queue for prefill. Prompts are read in slices, at most `limit` tokens at a time; a prompt with more to read rejoins the queue at the
 * end, so that a short prompt waits for one slice of each long one, not for all of it. Decoding runs between slices.
 */
export class PrefillQueue {
  private reading = 0;
  private readonly line: { readonly tokens: number; readonly enter: () => void }[] = [];

  constructor(private readonly limit: number) {}

  /** Runs `work`, which reads this many tokens, in its turn. If the signal is aborted before, throws its reason and does not run it. */
  async take<T>(tokens: number, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await new Promise<void>((enter) => {
      this.line.push({ tokens, enter });
      this.admit();
    });
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      this.reading -= tokens;
      this.admit();
    }
  }

  private admit(): void {
    while (
      this.line.length > 0 &&
      (this.reading === 0 || this.reading + this.line[0]!.tokens <= this.limit)
    ) {
      const { tokens, enter } = this.line.shift()!;
      this.reading += tokens;
      enter();
    }
  }
}
