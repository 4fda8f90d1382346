/**
 * The weights in an executor's memory, each loaded once for all programs that use it. Programs may be compiled concurrently: the second one
 * waits for weights that the first one is loading.
 */
import { StoredFiles } from './stored-files.js';
import type { Weight } from './tensors.js';
import { WeightFiles } from './weight-files.js';

/** The weights of one program. */
export interface LoadedWeights<Placed> extends ReadonlyMap<string, Placed> {
  /** Releases them; those that no other program uses are freed. */
  release(): void;
}

interface Entry<Placed> {
  readonly placed: Promise<Placed>;
  /** Reference count: programs that use it or wait for it. */
  users: number;
  /** Whether its files were verified to be unchanged after they were read. */
  isVerified: boolean;
}

/** The weights in an executor's memory, reference counted. */
export abstract class SharedWeights<Placed> {
  /** By the object that describes the weight. */
  private readonly entries = new Map<Weight, Entry<Placed>>();

  /** Loads a weight into memory. If it throws, nothing stays allocated. */
  protected abstract put(name: string, weight: Weight, files: WeightFiles): Promise<Placed>;

  protected abstract free(placed: Placed): void;

  /** Loads weights that are not in memory yet. Throws `DeviceError` for a file that is missing, too short or changed, and if memory is short. */
  async load(weights: ReadonlyMap<string, Weight>): Promise<LoadedWeights<Placed>> {
    const used: [Weight, Entry<Placed>][] = [];
    const files = new WeightFiles();
    try {
      const stored = await StoredFiles.open(this.unverified(weights));
      const all = new Loaded<Placed>(() => this.release(used));
      for (const [name, weight] of weights) {
        const entry = this.entryFor(name, weight, files);
        entry.users++;
        used.push([weight, entry]);
        all.set(name, await entry.placed);
      }
      await stored.expectUnchanged();
      for (const [, entry] of used) entry.isVerified = true;
      return all;
    } catch (error) {
      // Weights that may come from files replaced in the meantime are not shared with later programs.
      for (const [weight, entry] of used) if (!entry.isVerified) this.forget(weight, entry);
      this.release(used);
      throw error;
    } finally {
      await files.close();
    }
  }

  /** The weights that are not in memory. */
  missing(weights: ReadonlyMap<string, Weight>): Set<Weight> {
    return new Set([...weights.values()].filter((weight) => !this.entries.has(weight)));
  }

  private unverified(weights: ReadonlyMap<string, Weight>): Set<Weight> {
    return new Set([...weights.values()].filter((weight) => !this.entries.get(weight)?.isVerified));
  }

  private entryFor(name: string, weight: Weight, files: WeightFiles): Entry<Placed> {
    const known = this.entries.get(weight);
    if (known) return known;
    const entry = { placed: this.put(name, weight, files), users: 0, isVerified: false };
    this.entries.set(weight, entry);
    return entry;
  }

  private release(used: readonly [Weight, Entry<Placed>][]): void {
    for (const [weight, entry] of used) {
      if (--entry.users > 0) continue;
      this.forget(weight, entry);
      entry.placed.then(
        (placed) => this.free(placed),
        () => undefined,
      );
    }
  }

  private forget(weight: Weight, entry: Entry<Placed>): void {
    if (this.entries.get(weight) === entry) this.entries.delete(weight);
  }
}

class Loaded<Placed> extends Map<string, Placed> implements LoadedWeights<Placed> {
  private isReleased = false;

  constructor(private readonly letGo: () => void) {
    super();
  }

  release(): void {
    if (!this.isReleased) this.letGo();
    this.isReleased = true;
  }
}
