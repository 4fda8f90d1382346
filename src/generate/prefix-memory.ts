/** States of texts that were read before, in memory: see prefix-cache.ts. */
import { ConfigError } from '../errors.js';
import type { LanguageModel } from './language-model.js';
import { longestBeginning, type Snapshot } from './snapshot.js';

/** Where sessions look for what was read before, and keep what they read. */
export interface PrefixStore {
  readonly model: LanguageModel;
  /** How many states it was given: who saw this number before need not look again. */
  readonly puts: number;
  /** The state after the longest beginning of these tokens that is known, to be disposed of by the caller. */
  find(ids: readonly number[]): Promise<Snapshot | undefined>;
  /** The same, of what is in memory. */
  held(ids: readonly number[]): Snapshot | undefined;
  /** Keeps a copy of a state. Throws `SnapshotError` for one of another model. */
  put(snapshot: Snapshot): Promise<void>;
}

/** A cache in memory. */
export class PrefixMemory implements PrefixStore {
  puts = 0;
  /** That which was used last comes last. */
  private readonly snapshots = new Set<Snapshot>();

  /** A cache for sessions of one model, of so many bytes. Throws `ConfigError` for a budget that is none. */
  constructor(
    readonly model: LanguageModel,
    private readonly limit: number,
  ) {
    if (!(limit >= 0)) throw new ConfigError(`bytes of the cache is ${limit}: expected a number, 0 or more`);
  }

  /** How many states are in memory. */
  get size(): number {
    return this.snapshots.size;
  }

  /** Bytes that they take. */
  get bytes(): number {
    return sum([...this.holdings().values()].map(({ bytes }) => bytes));
  }

  async find(ids: readonly number[]): Promise<Snapshot | undefined> {
    return this.held(ids);
  }

  held(ids: readonly number[]): Snapshot | undefined {
    const found = longestBeginning(ids, this.snapshots)?.copy();
    if (found) this.hold(found.copy());
    return found;
  }

  async put(snapshot: Snapshot): Promise<void> {
    snapshot.checkModel(this.model);
    if (snapshot.length === 0) return;
    this.puts++;
    this.hold(snapshot.copy());
  }

  /** Forgets what is in memory. */
  clear(): void {
    for (const snapshot of this.snapshots) this.letGo(snapshot);
  }

  protected hold(snapshot: Snapshot): void {
    const ids = snapshot.tokens;
    for (const other of this.snapshots) {
      if (other.length === snapshot.length && other.begins(ids)) this.letGo(other);
    }
    this.snapshots.add(snapshot);
    this.shrink();
  }

  /** Lets go of the states that were not used for the longest time until the others fit. */
  private shrink(): void {
    const holdings = this.holdings();
    let total = sum([...holdings.values()].map(({ bytes }) => bytes));
    for (const snapshot of this.snapshots) {
      if (total <= this.limit) return;
      for (const key of snapshot.holdings.keys()) {
        const holding = holdings.get(key)!;
        holding.holders--;
        if (holding.holders === 0) total -= holding.bytes;
      }
      this.letGo(snapshot);
    }
  }

  private letGo(snapshot: Snapshot): void {
    this.snapshots.delete(snapshot);
    snapshot.dispose();
  }

  /** What takes memory, and how many states hold it. */
  private holdings(): Map<object, { bytes: number; holders: number }> {
    const all = new Map<object, { bytes: number; holders: number }>();
    for (const { holdings } of this.snapshots) {
      for (const [key, bytes] of holdings) {
        const holding = all.get(key) ?? { bytes, holders: 0 };
        holding.holders++;
        all.set(key, holding);
      }
    }
    return all;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
