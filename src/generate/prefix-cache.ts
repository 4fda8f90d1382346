/**
 * States of texts that were read before, so that a session that begins as one of them does not read it again. What is kept
 * and found is exact: the state after precisely these tokens.
 *
 * Sessions with a cache keep their state every 512 tokens of a prompt, at its end, and at the end of what they write. When
 * there is more than the budget allows, the least recently used states are dropped; memory that several states share, such
 * as the keys and values of one long text, is counted once. With a folder the states are on the disk too, for other
 * processes and later times (prefix-folder.ts).
 */
import { ConfigError, type HeddleError } from '../errors.js';
import type { LanguageModel } from './language-model.js';
import { PrefixFolder } from './prefix-folder.js';
import { PrefixMemory } from './prefix-memory.js';
import type { Snapshot } from './snapshot.js';

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
export class PrefixCache extends PrefixMemory {
  private readonly folder: PrefixFolder | undefined;

  /** A cache for sessions of one model. Throws `ConfigError` for a budget that is none. */
  constructor(model: LanguageModel, { bytes, folder, folderBytes = 10 * bytes }: PrefixCacheOptions) {
    super(model, bytes);
    if (!(folderBytes >= 0))
      throw new ConfigError(`folderBytes of the cache is ${folderBytes}: expected a number, 0 or more`);
    this.folder = folder === undefined ? undefined : new PrefixFolder(folder, folderBytes);
  }

  /** What last went wrong with the folder, if anything did: the cache works on without it. */
  get problem(): HeddleError | undefined {
    return this.folder?.problem;
  }

  override async find(ids: readonly number[]): Promise<Snapshot | undefined> {
    const held = this.held(ids);
    const stored = await this.folder?.find(this.model, ids, held?.length ?? 0);
    if (!stored) return held;
    held?.dispose();
    this.hold(stored.copy());
    return stored;
  }

  override async put(snapshot: Snapshot): Promise<void> {
    await super.put(snapshot);
    if (snapshot.length > 0) await this.folder?.put(snapshot);
  }
}
