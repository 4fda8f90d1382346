/** Defers freeing a state's values while runs use them: a state may be disposed of while a run with it is queued or running. */
export class Lifetime {
  private runs = 0;
  private isDisposed = false;

  constructor(private readonly letGo: () => void) {}

  /** Whether `dispose` was called. */
  get isOver(): boolean {
    return this.isDisposed && this.runs === 0;
  }

  /** Frees the values now, or when the last run that uses them ends. */
  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    if (this.isOver) this.letGo();
  }

  begin(): void {
    this.runs++;
  }

  end(): void {
    this.runs--;
    if (this.isOver) this.letGo();
  }
}

/** Runs `run`, and keeps the states' values until it ends. Its synchronous part runs before this function returns. */
export async function holding<T>(
  states: readonly { readonly life: Lifetime }[],
  run: () => Promise<T>,
): Promise<T> {
  for (const { life } of states) life.begin();
  try {
    return await run();
  } finally {
    for (const { life } of states) life.end();
  }
}
