/** One sequence: what was read and written so far, and the state that it left. */
import type { Memory } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import { Random } from '../nn/index.js';
import { type LanguageModel, PREFILL_CHUNK } from './language-model.js';
import { checkSampling, type SamplingOptions, sample } from './sampling.js';
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

type Settings = Required<Omit<GenerateOptions, 'seed'>> & { seed?: number };

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

/** Why a text ended: with a token that ends it, before a stop string, or because it had its length. */
export type StopReason = 'token' | 'string' | 'length';

export class Session {
  /** All tokens read and written. */
  readonly tokens: number[] = [];
  private logits: Float32Array | undefined;
  private busy = false;

  constructor(
    private readonly model: LanguageModel,
    private readonly memory: Memory = model.newMemory(),
  ) {}

  /** Bytes that this sequence's state takes. */
  get bytes(): number {
    return this.memory.bytes;
  }

  /** Reads a text, or tokens, behind what was read before. Throws `DataError` when that is nothing at all. */
  async read(prompt: string | readonly number[]): Promise<void> {
    const ids = typeof prompt === 'string' ? this.model.tokenizer.encode(prompt) : prompt;
    if (ids.length === 0) throw new DataError('the prompt has no tokens: give some text to read');
    // All of it at once: a prompt is read whole or not at all.
    this.model.check(ids);
    this.begin();
    try {
      for (let start = 0; start < ids.length; start += PREFILL_CHUNK) {
        await this.advance(ids.slice(start, start + PREFILL_CHUNK));
      }
    } finally {
      this.busy = false;
    }
  }

  /**
   * Writes on, token by token, until the end of the text, a stop string or token, or `maxTokens`; returns which of them
   * it was. Throws `ConfigError` for an option outside its range, `DataError` before anything was read or while the
   * session is at work.
   */
  async *generate(options: GenerateOptions = {}): AsyncGenerator<GeneratedPiece, StopReason> {
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const settings: Settings = { ...GENERATE_DEFAULTS, ...Object.fromEntries(given) };
    checkGeneration(settings);
    this.begin();
    try {
      return yield* this.write(settings);
    } finally {
      this.busy = false;
    }
  }

  private async *write(settings: Settings): AsyncGenerator<GeneratedPiece, StopReason> {
    if (!this.logits) throw new DataError('the session has read nothing: read a prompt first');
    const { model, tokenizer } = this.model;
    const random = new Random(settings.seed ?? Math.floor(Math.random() * 2 ** 32));
    const seen = new Set(this.tokens);
    const text = tokenizer.stream();
    const watch = new StopWatch(settings.stop);
    const ends = new Set([tokenizer.endOfText, ...model.eosTokenIds, ...settings.stopTokens]);
    let reason: StopReason = 'length';
    for (let count = 0; count < settings.maxTokens && !watch.stopped; count++) {
      const id = sample(this.logits, settings, seen, random);
      if (ends.has(id)) {
        reason = 'token';
        break;
      }
      seen.add(id);
      try {
        yield { id, text: watch.push(text.push(id)) };
      } finally {
        // Also when the caller takes no more: what it was given, the session has written.
        await this.advance([id]);
      }
    }
    const rest = watch.push(text.end()) + watch.end();
    if (rest !== '') yield { id: undefined, text: rest };
    return watch.stopped ? 'string' : reason;
  }

  /** Another session that has read the same; from here on each goes its own way. Throws `DataError` while this one is at work. */
  async copy(): Promise<Session> {
    this.begin();
    try {
      const copy = new Session(this.model, await this.memory.copy());
      for (const id of this.tokens) copy.tokens.push(id);
      copy.logits = this.logits;
      return copy;
    } finally {
      this.busy = false;
    }
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

  private async advance(ids: readonly number[]): Promise<void> {
    this.logits = await this.model.step([ids], this.tokens.length, this.memory, [ids.length - 1]);
    this.tokens.push(...ids);
  }
}
