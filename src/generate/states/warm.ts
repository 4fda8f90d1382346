/** States that were loaded last, in memory: whoever goes on from one of them again need not wait for its file. */
import type { LanguageModel } from '../language-model.js';
import type { Snapshot } from '../snapshot.js';
import type { StateLibrary } from './library.js';
import type { StateRecord } from './record.js';

/** What states take in memory that are kept there, where nothing is said: three or four behind 32,000 tokens of a model of 350M parameters. */
const WARM_BYTES = 1e9;

/** Loads states of a library, and keeps those that were asked for last, of so many bytes together. */
export class WarmStates {
  /** That which was asked for last comes last. */
  private readonly held = new Map<string, Promise<Snapshot>>();

  constructor(
    private readonly library: StateLibrary,
    private readonly limit = WARM_BYTES,
  ) {}

  /**
   * As `StateLibrary.load`; the snapshot is the caller's to dispose of. A state that is deleted is not found, whether it was kept or not: its
   * record is read each time.
   */
  async load(
    owner: string,
    id: string,
    model: LanguageModel,
  ): Promise<{ record: StateRecord; snapshot: Snapshot }> {
    const key = `${model.fingerprint.hash} ${model.fingerprint.quantization} ${owner} ${id}`;
    try {
      const record = await this.library.record(owner, id);
      let kept = this.held.get(key);
      // Two that ask at once wait for one file. What cannot be loaded is tried anew by the next.
      kept ??= this.library.load(owner, id, model).then(({ snapshot }) => snapshot);
      this.held.delete(key);
      this.held.set(key, kept);
      const snapshot = (await kept).copy();
      await this.shrink();
      return { record, snapshot };
    } catch (error) {
      await this.letGo(key);
      throw error;
    }
  }

  /** Frees what is kept. */
  async clear(): Promise<void> {
    for (const key of [...this.held.keys()]) await this.letGo(key);
  }

  /** The same, and closes the library. */
  async close(): Promise<void> {
    await this.clear();
    await this.library.close();
  }

  /** Frees the least recently used states until the others fit. */
  private async shrink(): Promise<void> {
    let total = 0;
    for (const [key, kept] of [...this.held].reverse()) {
      const bytes = await kept.then(
        (snapshot) => snapshot.bytes,
        () => 0,
      );
      total += bytes;
      if (total > this.limit) await this.letGo(key);
    }
  }

  private async letGo(key: string): Promise<void> {
    const kept = this.held.get(key);
    this.held.delete(key);
    await kept?.then(
      (snapshot) => snapshot.dispose(),
      () => {},
    );
  }
}
