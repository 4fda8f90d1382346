/**
 * The prefix cache: states of prefixes that were read before, so that sessions with the same prefix do not read it again. Entries are
 * exact: the state after precisely these tokens.
 *
 * Sessions with a cache store their state every 512 tokens of a prompt, at its end, and at the end of generated text. Beyond the budget the
 * least recently used states are evicted; memory that several states share, such as the keys and values of one long text, is counted once.
 * With a folder, states are also on disk, for other processes and later runs (prefix-folder.ts).
 */
import { expectObject } from '../arguments.js';
import { ConfigError, type HeddleError } from '../errors.js';
import type { LanguageModel } from './language-model.js';
import { PrefixFolder } from './prefix-folder.js';
import { PrefixMemory } from './prefix-memory.js';
import type { Snapshot } from './snapshot.js';

/** The limits of a cache, in bytes. */
export interface PrefixCacheOptions {
  /** The limit of memory. */
  readonly bytes: number;
  /** The folder of the states on disk, which is created if it is missing. */
  readonly folder?: string;
  /** The limit of disk space, by default ten times that of memory. */
  readonly folderBytes?: number;
}

/** A cache in memory, and optionally in a folder. */
export class PrefixCache extends PrefixMemory {
  private readonly folder: PrefixFolder | undefined;

  /** A cache for sessions of one model. Throws `ConfigError` for an invalid limit. */
  constructor(model: LanguageModel, options: PrefixCacheOptions) {
    expectObject(options, 'the options of the cache are', 'an object with bytes');
    const { bytes, folder, folderBytes = 10 * bytes } = options;
    super(model, bytes);
    if (!(folderBytes >= 0))
      throw new ConfigError(`folderBytes of the cache is ${folderBytes}: expected a number, 0 or more`);
    this.folder = folder === undefined ? undefined : new PrefixFolder(folder, folderBytes);
  }

  /** The last error of the folder, if there was one: the cache continues without it. */
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
