/** An object of the plugin that is freed exactly once, by its owner or by the garbage collector. */
export class Resource {
  private freed = false;

  constructor(
    private readonly all: Set<Resource>,
    readonly handle: bigint,
    private readonly release: () => void,
  ) {
    all.add(this);
  }

  get alive(): boolean {
    return !this.freed;
  }

  free(): void {
    if (this.freed) return;
    this.freed = true;
    this.all.delete(this);
    this.release();
  }
}

/** Frees what was dropped without being disposed. */
export const dropped = new FinalizationRegistry<Resource>((resource) => resource.free());
