/** How long a state has its values: somebody may dispose of it while a run with it waits, or is at work. */
export class Lifetime {
  private runs = 0;
  private isDisposed = false;

  constructor(private readonly letGo: () => void) {}

  /** Whether the values are gone. */
  get isOver(): boolean {
    return this.isDisposed && this.runs === 0;
  }

  /** Lets go of the values: now, or when the runs that have them are over. */
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

/** Does `run`, until whose end the states have their values. What it does before it awaits anything is done at once. */
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
