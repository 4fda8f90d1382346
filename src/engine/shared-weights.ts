/**
 * Weights that an executor has put into its memory, once for all programs that use the same ones. Programs may be compiled at the same time:
 * whoever comes second waits for what the first one is putting there.
 */
import { StoredFiles } from './stored-files.js';
import type { Weight } from './tensors.js';
import { WeightFiles } from './weight-files.js';

/** The weights of one program. */
export interface LoadedWeights<Placed> extends ReadonlyMap<string, Placed> {
  /** Lets go of them: those that no other program uses are freed. */
  release(): void;
}

interface Entry<Placed> {
  readonly placed: Promise<Placed>;
  /** Programs that use it, or wait for it. */
  users: number;
  /** Whether its files were found to be what they were before they were read. */
  isVerified: boolean;
}

/** The weights in an executor's memory. */
export abstract class SharedWeights<Placed> {
  /** By the object that gives them. */
  private readonly entries = new Map<Weight, Entry<Placed>>();

  /** Puts a weight into memory. Where it throws, it leaves nothing behind. */
  protected abstract put(name: string, weight: Weight, files: WeightFiles): Promise<Placed>;

  protected abstract free(placed: Placed): void;

  /** Loads what is not there yet. Throws `DeviceError` for a file that is missing, too short or changed, and where there is no room. */
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
      // What may be of other files than were asked for is nobody's from now on.
      for (const [weight, entry] of used) if (!entry.isVerified) this.forget(weight, entry);
      this.release(used);
      throw error;
    } finally {
      await files.close();
    }
  }

  /** Those that are not there. */
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
