/**
 * Reading goes slice by slice, and not more than `limit` tokens at a time: whoever has more to read waits behind those who came
 * meanwhile, so that a short prompt waits for a slice of each long one, and never for all of it; and before the next slices
 * those who write have their run.
 */
export class PrefillQueue {
  private reading = 0;
  private readonly line: { readonly tokens: number; readonly enter: () => void }[] = [];

  constructor(private readonly limit: number) {}

  /** Does `work`, which reads so many tokens, when it is its turn. Throws the signal's reason, and does nothing, where it was aborted meanwhile. */
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
