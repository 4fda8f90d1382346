/** A session: reads, generates, forks and restores one sequence, and shares prefixes with other sessions through a cache. */
import { expectList, expectOptions } from '../arguments.js';
import { ConfigError, DataError } from '../errors.js';
import type { SourceGiven } from '../models/index.js';
import {
  checkGeneration,
  type ForkPiece,
  GENERATE_DEFAULTS,
  type GeneratedPiece,
  type GenerateOptions,
  type GenerationSettings,
  type StopReason,
} from './generation.js';
import type { LanguageModel } from './language-model.js';
import { merged } from './merged.js';
import type { PrefixStore } from './prefix-memory.js';
import { Sequence } from './sequence.js';
import type { Snapshot } from './snapshot.js';
import { checkSignal, writeTokens } from './writing.js';

/** A fork after generation, and why it ended. */
export interface WrittenFork {
  readonly session: Session;
  readonly reason: StopReason;
}

/** The options of a session. */
export interface SessionOptions {
  /** The prefix cache, in which prefixes are looked up and states of this sequence are stored. */
  cache?: PrefixStore;
}

/** Cancellation of reading, and its scheduling among other sessions. */
export interface ReadOptions {
  /** Aborts between two chunks: the session then has read the chunks before, and the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
  /** The scheduler, which runs the reading of each chunk. */
  turn?: Turn | undefined;
}

/** Runs `work`, which reads this many tokens, and returns its result. */
export type Turn = <T>(tokens: number, work: () => Promise<T>) => Promise<T>;

/** The costs of reading a prompt. */
export interface ReadResult {
  /** Tokens whose state came from the cache. */
  readonly reusedTokens: number;
  /** Tokens that were read. */
  readonly readTokens: number;
}

/** With a cache, the state is stored after each series of this many chunks of a prompt. */
const CHUNKS_PER_SNAPSHOT = 2;

/** One sequence: reads, generates, forks, saves and restores it exactly. Concurrent calls throw `DataError`. */
export class Session {
  private readonly sequence: Sequence;
  private busy = false;
  private readonly cache: PrefixStore | undefined;
  /** `puts` of the cache at the last lookup. */
  private seen = 0;

  constructor(
    private readonly model: LanguageModel,
    options: SessionOptions = {},
  ) {
    expectOptions(options);
    const { cache } = options;
    if (cache && cache.model !== model) {
      throw new ConfigError('the cache is of another model: make one for each model');
    }
    this.cache = cache;
    this.sequence = new Sequence(model);
  }

  /** All tokens read and written. */
  get tokens(): readonly number[] {
    return this.sequence.tokens;
  }

  /** The bytes of this sequence's state. */
  get bytes(): number {
    return this.sequence.bytes;
  }

  /**
   * Reads a text, or tokens, after what was read before. An empty session starts from the longest cached prefix. Throws `DataError` if there is
   * nothing to read, and the signal's reason after an abort.
   */
  async read(prompt: string | readonly number[], options: ReadOptions = {}): Promise<ReadResult> {
    expectOptions(options);
    const { signal, turn } = options;
    signal?.throwIfAborted();
    const { tokenizer } = this.model;
    const encode = (text: string): number[] =>
      this.tokens.length === 0 ? tokenizer.encodeFromStart(text) : tokenizer.encode(text);
    const ids = typeof prompt === 'string' ? encode(prompt) : prompt;
    expectList(ids, 'the prompt is', 'tokens, or a text');
    if (ids.length === 0) throw new DataError('the prompt has no tokens: give some text to read');
    // The whole prompt is checked first, so that it is read whole or not at all.
    this.model.check(ids);
    this.model.expectRoom(this.tokens.length + ids.length);
    this.begin();
    try {
      this.seen = this.cache?.puts ?? 0;
      const known = this.tokens.length === 0 ? await this.cache?.find(ids) : undefined;
      if (known) this.sequence.restore(known);
      known?.dispose();
      const rest = known ? ids.slice(known.length) : ids;
      const readTokens = rest.length === 0 ? 0 : await this.readOn(rest, signal, turn);
      return { reusedTokens: ids.length - readTokens, readTokens };
    } finally {
      this.busy = false;
    }
  }

  /**
   * Encodes the source before the text, in an empty session: a text, an image or a sound (`readImage`, `readSound`), as the model's config
   * says. Its positions count as tokens. Throws `ConfigError` for a model without a source, `DataError` for a source that cannot be read, and
   * for a session that has a cache or is not empty.
   */
  async readSource(given: SourceGiven): Promise<void> {
    if (this.tokens.length > 0) throw new DataError('a source is read before all else: begin a new session');
    if (this.cache) throw new DataError('a session with a cache reads texts alone');
    this.begin();
    try {
      await this.sequence.readSource(given);
    } finally {
      this.busy = false;
    }
  }

  /**
   * Reads further tokens, at most a chunk, and returns the logits [tokens, vocabulary] after each of them. Throws as `read` does.
   */
  async readEach(ids: readonly number[]): Promise<Float32Array> {
    this.model.check(ids);
    if (ids.length === 0) throw new DataError('the prompt has no tokens: give some text to read');
    this.begin();
    try {
      return await this.sequence.readEach(ids);
    } finally {
      this.busy = false;
    }
  }

  /**
   * Generates token by token until the end of the text, a stop string or token, or `maxTokens`, and returns which of them it was. Throws
   * `ConfigError` for an option outside its range, `DataError` if the session is empty or busy, and the signal's reason after an abort.
   *
   * With `n`, this many forks of the session generate together, the i-th with the seed `seed` + i, and the session itself stays unchanged. The
   * pieces of all forks are interleaved; the forks are returned at the end. If the caller stops early, the forks are disposed of.
   */
  generate(options: GenerateOptions & { n: number }): AsyncGenerator<ForkPiece, WrittenFork[]>;
  generate(options?: GenerateOptions): AsyncGenerator<GeneratedPiece, StopReason>;
  generate(
    given: GenerateOptions & { n?: number } = {},
  ): AsyncGenerator<GeneratedPiece | ForkPiece, StopReason | WrittenFork[]> {
    expectOptions(given);
    const { n, ...options } = given;
    return n === undefined ? this.generateOne(options) : this.generateMany(n, options);
  }

  private async *generateMany(n: number, options: GenerateOptions): AsyncGenerator<ForkPiece, WrittenFork[]> {
    if (!(Number.isSafeInteger(n) && n >= 1)) throw new ConfigError(`n is ${n}: expected 1 or more`);
    const seed = options.seed ?? Math.floor(Math.random() * 2 ** 31);
    const snapshot = await this.snapshot();
    const forks = Array.from({ length: n }, () => this.forkOf(snapshot));
    snapshot.dispose();
    const reasons: StopReason[] = [];
    const writers = forks.map(async function* (fork, index): AsyncGenerator<ForkPiece, void> {
      const pieces = fork.generateOne({ ...options, seed: seed + index });
      let next = await pieces.next();
      try {
        for (; !next.done; next = await pieces.next()) yield { ...next.value, index };
        reasons[index] = next.value;
      } finally {
        await pieces.return('length');
      }
    });
    let finished = false;
    try {
      yield* merged(writers);
      finished = true;
    } finally {
      if (!finished) for (const fork of forks) fork.dispose();
    }
    return forks.map((session, i) => ({ session, reason: reasons[i]! }));
  }

  private async *generateOne(options: GenerateOptions): AsyncGenerator<GeneratedPiece, StopReason> {
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const settings: GenerationSettings = { ...GENERATE_DEFAULTS, ...Object.fromEntries(given) };
    checkGeneration(settings);
    this.model.check([...settings.bias.keys()]);
    this.begin();
    let failed = false;
    try {
      if (this.tokens.length === 0) throw new DataError('the session has read nothing: read a prompt first');
      return yield* writeTokens(this.sequence, this.model, settings);
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      try {
        // Also when the caller stops iterating.
        if (!failed) await this.keep();
      } finally {
        this.busy = false;
      }
    }
  }

  /** A snapshot of the session. Throws `DataError` while it is busy. */
  async snapshot(): Promise<Snapshot> {
    this.begin();
    try {
      return await this.sequence.snapshot();
    } finally {
      this.busy = false;
    }
  }

  /**
   * Restores a snapshot of any session of the same model. Throws `SnapshotError` for a snapshot of another model, `DataError` while this
   * session is busy.
   */
  restore(snapshot: Snapshot): void {
    this.begin();
    try {
      this.sequence.restore(snapshot);
    } finally {
      this.busy = false;
    }
  }

  /** An independent session with the same tokens and state. Throws `DataError` while this one is busy. */
  async fork(): Promise<Session> {
    const snapshot = await this.snapshot();
    try {
      return this.forkOf(snapshot);
    } finally {
      snapshot.dispose();
    }
  }

  private forkOf(snapshot: Snapshot): Session {
    const fork = new Session(this.model, this.cache && { cache: this.cache });
    fork.sequence.restore(snapshot);
    return fork;
  }

  /**
   * Reads at least one token, in chunks that end at multiples of the chunk's length, so that the bits of the result do not depend on how much
   * was cached. Returns the number of tokens that it read; the others were found in the cache, where another session had stored them in the
   * meantime.
   */
  private async readOn(
    ids: readonly number[],
    signal: AbortSignal | undefined,
    turn: Turn = (_, work) => work(),
  ): Promise<number> {
    const { sequence } = this;
    await sequence.settle();
    const { chunk: size } = this.model;
    const start = sequence.tokens.length;
    const end = start + ids.length;
    let readTokens = 0;
    const next = async (): Promise<void> => {
      if (this.takeUpOthers(ids, start)) return;
      const at = sequence.tokens.length;
      const chunk = ids.slice(at - start, Math.min(end, at - (at % size) + size) - start);
      await sequence.read(chunk);
      readTokens += chunk.length;
      const { length } = sequence.tokens;
      if (length % (CHUNKS_PER_SNAPSHOT * size) === 0 || length === end) await this.keep();
    };
    while (sequence.tokens.length < end) {
      await checkSignal(signal);
      await turn(Math.min(size, end - sequence.tokens.length), next);
    }
    return readTokens;
  }

  /** Continues from a longer cached prefix, if another session has stored one since the last lookup. */
  private takeUpOthers(ids: readonly number[], start: number): boolean {
    if (!this.cache || this.cache.puts === this.seen) return false;
    this.seen = this.cache.puts;
    const left = this.cache.held([...this.tokens.slice(0, start), ...ids]);
    const isLonger = left !== undefined && left.length > this.tokens.length;
    if (isLonger) this.sequence.restore(left);
    left?.dispose();
    return isLonger;
  }

  /** Stores a snapshot in the cache. */
  private async keep(): Promise<void> {
    if (!this.cache) return;
    const snapshot = await this.sequence.snapshot();
    const seesAll = this.seen === this.cache.puts;
    await this.cache.put(snapshot);
    if (seesAll) this.seen = this.cache.puts;
    snapshot.dispose();
  }

  /** Marks the session as busy. Throws `DataError` if it already is: concurrent calls would interleave their tokens. */
  private begin(): void {
    if (this.busy) {
      throw new DataError(
        'the session is reading or writing: wait until it is done, or take another session',
      );
    }
    this.busy = true;
  }

  /** Frees the state. */
  dispose(): void {
    this.sequence.dispose();
  }
}
