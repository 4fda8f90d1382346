/**
 * The server's prefix cache: in memory, and in a folder, so that it survives a restart. States are written to the folder only when the engine
 * has been idle for a while, since hashing and writing one blocks the thread that computes.
 */
import { type LanguageModel, PrefixCache, type PrefixStore, type Snapshot } from '../../generate/index.js';
import { PrefixFolder } from '../../generate/prefix-folder.js';

/** The limit of the folder, as a multiple of the limit of memory. */
const FOLDER_FACTOR = 10;
/** Unwritten states may take 1 / 4 of the limit in addition to the cache, which may have evicted them already. */
const UNWRITTEN_SHARE = 4;
/** Milliseconds of idleness before anything is written: the next request often comes at once. */
const PAUSE = 1000;

/** A prefix cache in memory, with a folder that states are copied to while the engine is idle. */
export class StateCache implements PrefixStore {
  private readonly cache: PrefixCache;
  private readonly folder: PrefixFolder | undefined;
  /** States that are not in the folder yet, the newest last. */
  private readonly unwritten = new Set<Snapshot>();
  private busy = 0;
  private writing: Promise<void> | undefined;
  private pause: NodeJS.Timeout | undefined;

  /** `limit` is in bytes. */
  constructor(
    readonly model: LanguageModel,
    private readonly limit: number,
    folder: string | undefined,
  ) {
    this.cache = new PrefixCache(model, { bytes: limit });
    this.folder = folder === undefined ? undefined : new PrefixFolder(folder, FOLDER_FACTOR * limit);
  }

  get puts(): number {
    return this.cache.puts;
  }

  get size(): number {
    return this.cache.size;
  }

  get bytes(): number {
    return this.cache.bytes;
  }

  async find(ids: readonly number[]): Promise<Snapshot | undefined> {
    const held = await this.cache.find(ids);
    const stored = await this.folder?.find(this.model, ids, held?.length ?? 0);
    if (!stored) return held;
    held?.dispose();
    await this.cache.put(stored);
    return stored;
  }

  held(ids: readonly number[]): Snapshot | undefined {
    return this.cache.held(ids);
  }

  async put(snapshot: Snapshot): Promise<void> {
    await this.cache.put(snapshot);
    if (!this.folder) return;
    this.unwritten.add(snapshot.copy());
    // While the engine is never idle, the oldest unwritten states are dropped.
    let bytes = [...this.unwritten].reduce((sum, each) => sum + each.bytes, 0);
    for (const oldest of this.unwritten) {
      if (bytes <= this.limit / UNWRITTEN_SHARE) break;
      this.unwritten.delete(oldest);
      bytes -= oldest.bytes;
      oldest.dispose();
    }
  }

  /** Call it when work begins: nothing is written until `end`. */
  begin(): void {
    clearTimeout(this.pause);
    this.busy++;
  }

  end(): void {
    this.busy--;
    if (this.busy > 0) return;
    this.pause = setTimeout(() => {
      this.writing ??= this.write(() => this.busy === 0).finally(() => {
        this.writing = undefined;
      });
    }, PAUSE);
  }

  /** Writes the remaining states. */
  async close(): Promise<void> {
    clearTimeout(this.pause);
    await this.writing;
    await this.write(() => true);
  }

  private async write(goesOn: () => boolean): Promise<void> {
    while (this.unwritten.size > 0 && goesOn()) {
      const snapshot = [...this.unwritten].at(-1)!;
      this.unwritten.delete(snapshot);
      await this.folder!.put(snapshot);
      snapshot.dispose();
    }
  }
}
