/** A session: reads, writes, forks and restores one sequence, and shares what it reads with others through a cache. */
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

/** A fork where it stands after it has written, and why it ended. */
export interface WrittenFork {
  readonly session: Session;
  readonly reason: StopReason;
}

/** What a session shares with others. */
export interface SessionOptions {
  /** The cache in which known prefixes are looked up, and states of this sequence are kept. */
  cache?: PrefixStore;
}

/** How reading is cancelled, and scheduled among other sessions. */
export interface ReadOptions {
  /** Ends it between two chunks: the session has then read those before, and the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
  /** The scheduler, which runs the reading of each chunk. */
  turn?: Turn | undefined;
}

/** Runs `work`, which reads so many tokens, and returns what it returns. */
export type Turn = <T>(tokens: number, work: () => Promise<T>) => Promise<T>;

/** What reading took. */
export interface ReadResult {
  /** Tokens whose state was taken out of the cache. */
  readonly reusedTokens: number;
  /** The others. */
  readonly readTokens: number;
}

/** With a cache, the state is kept whenever so many chunks of a prompt were read. */
const CHUNKS_PER_SNAPSHOT = 2;

/** Reads and writes one sequence, forks it, and saves and restores it exactly. Two calls at once throw `DataError`. */
export class Session {
  private readonly sequence: Sequence;
  private busy = false;
  private readonly cache: PrefixStore | undefined;
  /** How many states the cache had been given when this session looked last. */
  private seen = 0;

  constructor(
    private readonly model: LanguageModel,
    { cache }: SessionOptions = {},
  ) {
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

  /** Bytes that this sequence's state takes. */
  get bytes(): number {
    return this.sequence.bytes;
  }

  /**
   * Reads a text, or tokens, behind what was read before. A session that has read nothing takes the longest beginning of it
   * that its cache holds. Throws `DataError` when there is nothing to read, and the signal's reason when it is aborted.
   */
  async read(prompt: string | readonly number[], { signal, turn }: ReadOptions = {}): Promise<ReadResult> {
    signal?.throwIfAborted();
    const { tokenizer } = this.model;
    const encode = (text: string): number[] =>
      this.tokens.length === 0 ? tokenizer.encodeFromStart(text) : tokenizer.encode(text);
    const ids = typeof prompt === 'string' ? encode(prompt) : prompt;
    if (ids === null || typeof ids !== 'object')
      throw new DataError(`the prompt is ${String(ids)}: expected a text or a list of tokens`);
    if (ids.length === 0) throw new DataError('the prompt has no tokens: give some text to read');
    // All of it at once: a prompt is read whole or not at all.
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
   * Reads what stands before the text, in a session that has read nothing yet: a text, an image or a sound (`readImage`, `readSound`), as
   * the model's config says. Its places count as tokens. Throws `ConfigError` for a model without a source, `DataError` for a source that
   * cannot be read, and for a session that has a cache or has read something.
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
   * Reads tokens, at most a chunk, behind what was read before; returns the logits [tokens, vocabulary] after each of them. Throws as
   * `read`.
   */
  async readEach(ids: readonly number[]): Promise<Float32Array> {
    if (ids.length === 0) throw new DataError('the prompt has no tokens: give some text to read');
    this.model.check(ids);
    this.begin();
    try {
      return await this.sequence.readEach(ids);
    } finally {
      this.busy = false;
    }
  }

  /**
   * Writes on, token by token, until the end of the text, a stop string or token, or `maxTokens`; returns which of them
   * it was. Throws `ConfigError` for an option outside its range, `DataError` before anything was read or while the
   * session is at work, and the signal's reason when it is aborted.
   *
   * With `n`, so many forks of this session write together, the i-th with the seed `seed` + i, and this one stays where it is.
   * Their pieces come as they are written; the forks are returned at the end. A caller that stops early does not get the forks: they are
   * disposed of.
   */
  generate(options?: GenerateOptions): AsyncGenerator<GeneratedPiece, StopReason>;
  generate(options: GenerateOptions & { n: number }): AsyncGenerator<ForkPiece, WrittenFork[]>;
  generate({
    n,
    ...options
  }: GenerateOptions & { n?: number } = {}): AsyncGenerator<
    GeneratedPiece | ForkPiece,
    StopReason | WrittenFork[]
  > {
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

  /** The session's present state. Throws `DataError` while it is at work. */
  async snapshot(): Promise<Snapshot> {
    this.begin();
    try {
      return await this.sequence.snapshot();
    } finally {
      this.busy = false;
    }
  }

  /**
   * Becomes what the session of the snapshot was; it may be any session of the same model. Throws `SnapshotError` for one of another model,
   * `DataError` while this session is at work.
   */
  restore(snapshot: Snapshot): void {
    this.begin();
    try {
      this.sequence.restore(snapshot);
    } finally {
      this.busy = false;
    }
  }

  /** An independent session with the same tokens and state. Throws `DataError` while this one is at work. */
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
   * Reads at least one token, in chunks that end at multiples of the chunk's length, so that the bits of the result do not
   * depend on how much was in the cache. Returns how many it read: the others were in the cache, where another session had put them
   * meanwhile.
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

  /** Continues from a longer prefix of the same text, if another session has put one into the cache since this one looked. */
  private takeUpOthers(ids: readonly number[], start: number): boolean {
    if (!this.cache || this.cache.puts === this.seen) return false;
    this.seen = this.cache.puts;
    const left = this.cache.held([...this.tokens.slice(0, start), ...ids]);
    const isLonger = left !== undefined && left.length > this.tokens.length;
    if (isLonger) this.sequence.restore(left);
    left?.dispose();
    return isLonger;
  }

  /** Puts a snapshot into the cache. */
  private async keep(): Promise<void> {
    if (!this.cache) return;
    const snapshot = await this.sequence.snapshot();
    const seesAll = this.seen === this.cache.puts;
    await this.cache.put(snapshot);
    if (seesAll) this.seen = this.cache.puts;
    snapshot.dispose();
  }

  /** Marks the session as busy. Throws `DataError` where it is: concurrent calls would interleave their tokens. */
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
