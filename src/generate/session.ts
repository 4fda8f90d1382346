/** One sequence: what was read and written so far, and the state that it left. */
import { type Memory, type MemorySnapshot, takeOut } from '../engine/loop/index.js';
import { ConfigError, DataError } from '../errors.js';
import { Random } from '../nn/index.js';
import { Batching } from './batching.js';
import { type Choosing, checkChoice, LIKELIEST } from './choice.js';
import { type Continuation, type LanguageModel, PREFILL_CHUNK } from './language-model.js';
import { merged } from './merged.js';
import type { PrefixCache } from './prefix-cache.js';
import { checkSampling, type SamplingOptions } from './sampling.js';
import { Snapshot } from './snapshot.js';
import { StopWatch } from './stop.js';

export interface GenerateOptions extends Partial<SamplingOptions> {
  /** At most this many tokens. */
  maxTokens?: number;
  /** Ends before any of these strings. */
  stop?: readonly string[];
  /** Ends before any of these tokens, besides those that end a text for the model and for its tokenizer. */
  stopTokens?: readonly number[];
  /** The same seed chooses the same tokens. */
  seed?: number;
  /** Ends it between two tokens: the session then stands behind the last one that was given, and the signal's reason is thrown. */
  signal?: AbortSignal;
}

export const GENERATE_DEFAULTS = {
  maxTokens: 256,
  temperature: 0.8,
  topK: 0,
  topP: 0.95,
  repetitionPenalty: 1,
  stop: [] as readonly string[],
  stopTokens: [] as readonly number[],
} as const;

type Settings = Required<Omit<GenerateOptions, 'seed' | 'signal'>> & Pick<GenerateOptions, 'seed' | 'signal'>;

/** Throws `ConfigError` for a value outside its range. */
export function checkGeneration(
  options: SamplingOptions & Pick<GenerateOptions, 'maxTokens' | 'seed'>,
): void {
  checkSampling(options);
  for (const key of ['maxTokens', 'seed'] as const) {
    const value = options[key];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0)) {
      throw new ConfigError(`${key} is ${value}: expected a whole number, 0 or more`);
    }
  }
}

/** One generated token and the text that is complete with it, sometimes none. The last piece may have no token. */
export interface GeneratedPiece {
  readonly id: number | undefined;
  readonly text: string;
}

/** A piece of the fork with this index. */
export interface ForkPiece extends GeneratedPiece {
  readonly index: number;
}

export interface WrittenFork {
  readonly session: Session;
  readonly reason: StopReason;
}

export interface SessionOptions {
  /** Where to look for a beginning that was read before, and to keep what is read here. */
  cache?: PrefixCache;
  /** Writes together with the other sessions that have it. */
  batch?: Batching;
}

export interface ReadOptions {
  /** Ends it between two chunks: the session has then read those before, and the signal's reason is thrown. */
  signal?: AbortSignal | undefined;
}

/** What reading took. */
export interface ReadResult {
  /** Tokens whose state was taken out of the cache. */
  readonly reusedTokens: number;
  /** The others. */
  readonly readTokens: number;
}

/** Why a text ended: with a token that ends it, before a stop string, or because it had its length. */
export type StopReason = 'token' | 'string' | 'length';

/**
 * Tokens that one run writes. A session's memory stands at the end of what was read, or whole runs behind it; what was
 * written since is read again by the run that goes on. So it does not matter, to the last bit, where a text was
 * interrupted, or whether its tokens were asked for one by one.
 */
export const TOKENS_PER_RUN = 8;

/** With a cache, the state is kept whenever so many chunks of a prompt were read. */
const CHUNKS_PER_SNAPSHOT = 2;

export class Session {
  private all: number[] = [];
  /** The last of them, which are not in the memory yet: at most a run's. */
  private since: number[] = [];
  /** Those after the last token in the memory, where none came since. */
  private logits: Float32Array | undefined;
  private busy = false;

  private readonly cache: PrefixCache | undefined;
  private readonly batch: Batching | undefined;

  constructor(
    private readonly model: LanguageModel,
    { cache, batch }: SessionOptions = {},
    private readonly memory: Memory = model.newMemory(),
  ) {
    for (const [what, shared] of Object.entries({ cache, batch })) {
      if (shared && shared.model !== model) {
        throw new ConfigError(`the ${what} is of another model: make one for each model`);
      }
    }
    this.cache = cache;
    this.batch = batch;
  }

  /** All tokens read and written. */
  get tokens(): readonly number[] {
    return this.all;
  }

  /** Bytes that this sequence's state takes. */
  get bytes(): number {
    return this.memory.bytes;
  }

  /**
   * Reads a text, or tokens, behind what was read before. A session that has read nothing takes the longest beginning of it
   * that its cache holds. Throws `DataError` when there is nothing to read, and the signal's reason when it is aborted.
   */
  async read(prompt: string | readonly number[], { signal }: ReadOptions = {}): Promise<ReadResult> {
    signal?.throwIfAborted();
    const { tokenizer } = this.model;
    const encode = (text: string): number[] =>
      this.all.length === 0 ? tokenizer.encodeFromStart(text) : tokenizer.encode(text);
    const ids = typeof prompt === 'string' ? encode(prompt) : prompt;
    if (ids.length === 0) throw new DataError('the prompt has no tokens: give some text to read');
    // All of it at once: a prompt is read whole or not at all.
    this.model.check(ids);
    this.begin();
    try {
      const known = this.all.length === 0 ? await this.cache?.find(ids) : undefined;
      if (known) this.takeUp(known);
      const reusedTokens = known?.length ?? 0;
      const readTokens = ids.length - reusedTokens;
      if (readTokens > 0) await this.readOn(reusedTokens === 0 ? ids : ids.slice(reusedTokens), signal);
      return { reusedTokens, readTokens };
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
      await this.settle();
      const logits = await this.model.readEach(ids, this.all.length, this.memory);
      this.logits = logits.slice(-this.model.model.vocabSize);
      this.all.push(...ids);
      return logits;
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
   * Their pieces come as they are written; the forks are returned, each where it stands then. Who takes no more loses them.
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
    const batch = this.batch ?? new Batching(this.model, { maxRows: n });
    const forks = Array.from({ length: n }, () => this.forkOf(snapshot, batch));
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
    const settings: Settings = { ...GENERATE_DEFAULTS, ...Object.fromEntries(given) };
    checkGeneration(settings);
    this.begin();
    let failed = false;
    try {
      return yield* this.write(settings);
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      try {
        // Also when the caller takes no more.
        if (!failed) await this.keep();
        if (this.batch) takeOut(this.memory);
      } finally {
        this.busy = false;
      }
    }
  }

  private async *write(settings: Settings): AsyncGenerator<GeneratedPiece, StopReason> {
    if (this.tokens.length === 0) throw new DataError('the session has read nothing: read a prompt first');
    const { model, tokenizer } = this.model;
    const random = new Random(settings.seed ?? Math.floor(Math.random() * 2 ** 32));
    const endOfText = tokenizer.endOfText === undefined ? [] : [tokenizer.endOfText];
    const ends = new Set([...endOfText, ...model.eosTokenIds, ...settings.stopTokens]);
    const text = tokenizer.stream();
    const watch = new StopWatch(settings.stop);
    let reason: StopReason = 'length';
    let run: Run | undefined;
    try {
      for (let count = 0; count < settings.maxTokens && !watch.stopped; count++) {
        await checkSignal(settings.signal);
        run ??= await this.ahead({ ...settings, ends: [...ends] }, random, settings.maxTokens - count);
        const id = run.chosen[0]!;
        if (ends.has(id)) {
          reason = 'token';
          break;
        }
        run.chosen.shift();
        try {
          yield { id, text: watch.push(text.push(id)) };
        } finally {
          // Also when the caller takes no more: what it was given, the session has written.
          this.all.push(id);
          this.since.push(id);
        }
        if (run.chosen.length === 0) {
          this.leave(run);
          run = undefined;
        }
      }
    } finally {
      if (run) this.leave(run);
    }
    const rest = watch.push(text.end()) + watch.end();
    if (rest !== '') yield { id: undefined, text: rest };
    return watch.stopped ? 'string' : reason;
  }

  /** Chooses the tokens that come next, at most `wanted`. */
  private async ahead(
    settings: Settings & { ends: readonly number[] },
    random: Random,
    wanted: number,
  ): Promise<Run> {
    const choosing = { ...settings, occurred: this.tokens };
    const { since } = this;
    if (since.length === 0) {
      const first = await this.model.choose(this.logits!, random.uniform(), choosing);
      return { chosen: [first], whole: false };
    }
    const again = since.length - 1;
    const steps = Math.min(TOKENS_PER_RUN, again + wanted);
    const numbers = Array.from({ length: steps }, (_, i) => (i < again ? 0 : random.uniform()));
    const continuation = this.continuation(numbers, choosing);
    const before = this.memory.hold();
    try {
      const { tokens, logits } = this.batch
        ? await this.batch.write(continuation, this.memory)
        : (await this.model.write([continuation], this.memory))[0]!;
      checkChoice(tokens.at(-1)!, logits);
      return { chosen: tokens.slice(again), before, whole: tokens.length === TOKENS_PER_RUN };
    } catch (error) {
      this.memory.restore(before);
      before.dispose();
      throw error;
    }
  }

  /** After a run whose tokens were taken, all or the first of them. */
  private leave({ before, chosen, whole }: Run): void {
    if (!before) return;
    if (whole && chosen.length === 0) this.since = this.since.slice(-1);
    else this.memory.restore(before);
    before.dispose();
  }

  /** Has the memory read what was written since. */
  private async settle(): Promise<void> {
    const { since } = this;
    if (since.length === 0) return;
    // Alone: in a batch the memory would move on as far as the others'.
    const continuation = this.continuation(
      since.map(() => 0),
      LIKELIEST,
    );
    const [written] = await this.model.write([continuation], this.memory);
    this.logits = written!.logits;
    this.since = [];
  }

  /** Reads what was written since, and writes as many tokens in all as there are random numbers. */
  private continuation(random: readonly number[], choosing: Choosing): Continuation {
    const [last, ...prescribed] = this.since as [number, ...number[]];
    return { last, position: this.tokens.length - this.since.length, random, prescribed, choosing };
  }

  /** What this session is now, to take up again. Throws `DataError` while it is at work. */
  async snapshot(): Promise<Snapshot> {
    this.begin();
    try {
      return await this.standing();
    } finally {
      this.busy = false;
    }
  }

  /**
   * Goes back, or over, to where a session of the same model stood. Throws `SnapshotError` for one of another model,
   * `DataError` while this session is at work.
   */
  restore(snapshot: Snapshot): void {
    this.begin();
    try {
      this.takeUp(snapshot);
    } finally {
      this.busy = false;
    }
  }

  /** Another session that stands where this one does; each goes its own way. Throws `DataError` while this one is at work. */
  async fork(): Promise<Session> {
    const snapshot = await this.snapshot();
    return this.forkOf(snapshot, this.batch);
  }

  private forkOf(snapshot: Snapshot, batch: Batching | undefined): Session {
    const options = { ...(this.cache && { cache: this.cache }), ...(batch && { batch }) };
    const fork = new Session(this.model, options, snapshot.memory.memory());
    fork.takeUp(snapshot);
    return fork;
  }

  private async standing(): Promise<Snapshot> {
    return new Snapshot({
      model: this.model,
      memory: await this.memory.snapshot(),
      tokens: Int32Array.from(this.all),
      since: this.since.length,
      logits: this.since.length === 0 ? this.logits : undefined,
    });
  }

  private takeUp(snapshot: Snapshot): void {
    snapshot.checkModel(this.model);
    this.memory.restore(snapshot.memory);
    this.all = snapshot.tokens;
    this.since = this.all.slice(this.all.length - snapshot.since);
    this.logits = snapshot.logits;
  }

  /** Reads at least one token. */
  private async readOn(ids: readonly number[], signal: AbortSignal | undefined): Promise<void> {
    await this.settle();
    for (let start = 0; start < ids.length; start += PREFILL_CHUNK) {
      await checkSignal(signal);
      const chunk = ids.slice(start, start + PREFILL_CHUNK);
      this.logits = await this.model.read([chunk], this.all.length, this.memory);
      this.all.push(...chunk);
      const chunks = start / PREFILL_CHUNK + 1;
      if (chunks % CHUNKS_PER_SNAPSHOT === 0 || start + PREFILL_CHUNK >= ids.length) await this.keep();
    }
  }

  /** Has the cache keep where this session stands. */
  private async keep(): Promise<void> {
    await this.cache?.put(await this.standing());
  }

  /** A sequence has one end: two that read or write at once would mix their tokens. */
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
    this.memory.dispose();
  }
}

/**
 * Throws the signal's reason where it is aborted. The engine computes on this thread, so timers and other events that may abort it are let
 * through first.
 */
async function checkSignal(signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return;
  await new Promise(setImmediate);
  signal.throwIfAborted();
}

/** Tokens that were chosen and not given out yet, and the memory from before they were. */
interface Run {
  readonly chosen: number[];
  readonly before?: MemorySnapshot;
  /** Whether it wrote as many tokens as a run does. */
  readonly whole: boolean;
}
