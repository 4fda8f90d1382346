/** The prefix cache in memory: see prefix-cache.ts. */
import { ConfigError } from '../errors.js';
import type { LanguageModel } from './language-model.js';
import { longestBeginning, type Snapshot } from './snapshot.js';

/** A prefix cache as sessions use it. */
export interface PrefixStore {
  readonly model: LanguageModel;
  /** The number of states that were added so far; while it is unchanged, another lookup cannot find more. */
  readonly puts: number;
  /** The state of the longest cached prefix of these tokens. The caller disposes of it. */
  find(ids: readonly number[]): Promise<Snapshot | undefined>;
  /** The same, from memory only. */
  held(ids: readonly number[]): Snapshot | undefined;
  /** Adds a copy of a state. Throws `SnapshotError` for one of another model. */
  put(snapshot: Snapshot): Promise<void>;
}

/** A cache in memory. */
export class PrefixMemory implements PrefixStore {
  puts = 0;
  /** In order of their last use. */
  private readonly snapshots = new Set<Snapshot>();

  /** A cache for sessions of one model, with a limit in bytes. Throws `ConfigError` for an invalid limit. */
  constructor(
    readonly model: LanguageModel,
    private readonly limit: number,
  ) {
    if (!(limit >= 0)) throw new ConfigError(`bytes of the cache is ${limit}: expected a number, 0 or more`);
  }

  /** The number of states in memory. */
  get size(): number {
    return this.snapshots.size;
  }

  /** The bytes of the states in memory. */
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

  /** Removes all states from memory. */
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

  /** Evicts the least recently used states until the others fit. */
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

  /** The memory of all states by owner, with its bytes and the number of states that share it. */
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
