/**
 * States of texts that were read before, so that a session that begins as one of them does not read it again. What is kept
 * and found is exact: the state after precisely these tokens.
 *
 * Sessions with a cache keep their state every 512 tokens of a prompt, at its end, and at the end of what they write. When
 * there is more than the budget allows, what was not used for the longest time goes first; what several states share, such
 * as the keys and values of one long text, is counted once. With a folder the states are on the disk too, for other
 * processes and later times (prefix-folder.ts).
 */
import { ConfigError, type HeddleError } from '../errors.js';
import type { LanguageModel } from './language-model.js';
import { PrefixFolder } from './prefix-folder.js';
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

/** How much a cache may take. Sizes are in bytes. */
export interface PrefixCacheOptions {
  /** Memory that the states may take. */
  readonly bytes: number;
  /** Where states are kept on the disk; it is made if need be. */
  readonly folder?: string;
  /** Disk space that they may take there, by default ten times as much as memory. */
  readonly folderBytes?: number;
}

/** A cache in memory, and in a folder where one is given (see the head of this file). */
export class PrefixCache implements PrefixStore {
  puts = 0;
  private readonly limit: number;
  private readonly folder: PrefixFolder | undefined;
  /** That which was used last comes last. */
  private readonly snapshots = new Set<Snapshot>();

  /** A cache for sessions of one model. Throws `ConfigError` for a budget that is none. */
  constructor(
    readonly model: LanguageModel,
    { bytes, folder, folderBytes = 10 * bytes }: PrefixCacheOptions,
  ) {
    for (const [name, value] of Object.entries({ bytes, folderBytes })) {
      if (!(value >= 0))
        throw new ConfigError(`${name} of the cache is ${value}: expected a number, 0 or more`);
    }
    this.limit = bytes;
    this.folder = folder === undefined ? undefined : new PrefixFolder(folder, folderBytes);
  }

  /** How many states are in memory. */
  get size(): number {
    return this.snapshots.size;
  }

  /** Bytes that they take. */
  get bytes(): number {
    return sum([...this.holdings().values()].map(({ bytes }) => bytes));
  }

  /** What last went wrong with the folder, if anything did: the cache works on without it. */
  get problem(): HeddleError | undefined {
    return this.folder?.problem;
  }

  async find(ids: readonly number[]): Promise<Snapshot | undefined> {
    const held = this.held(ids);
    const stored = await this.folder?.find(this.model, ids, held?.length ?? 0);
    if (!stored) return held;
    held?.dispose();
    this.hold(stored.copy());
    return stored;
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
    await this.folder?.put(snapshot);
  }

  /** Forgets what is in memory. */
  clear(): void {
    for (const snapshot of this.snapshots) this.letGo(snapshot);
  }

  private hold(snapshot: Snapshot): void {
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
