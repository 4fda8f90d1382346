/** A cache of recently loaded states in memory, so that continuing from one of them again needs no file access. */
import type { LanguageModel } from '../language-model.js';
import type { Snapshot } from '../snapshot.js';
import type { StateLibrary } from './library.js';
import type { StateRecord } from './record.js';

/** The default limit in bytes: three or four states after 32,000 tokens of a model of 350M parameters. */
const WARM_BYTES = 1e9;

/** Loads states of a library through a least-recently-used cache with a limit in bytes. */
export class WarmStates {
  /** In order of their last use. */
  private readonly held = new Map<string, Promise<Snapshot>>();

  constructor(
    private readonly library: StateLibrary,
    private readonly limit = WARM_BYTES,
  ) {}

  /**
   * As `StateLibrary.load`. The caller disposes of the snapshot. A deleted state is not found even if it is cached, since its record is read
   * each time.
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
      // Concurrent calls share one load. After a failure, the next call tries again.
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

  /** Clears the cache. */
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
