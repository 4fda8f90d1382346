/** How a text is written: its options, their defaults and limits, and what is given out while it is written. */
import { ConfigError } from '../errors.js';
import type { TokenLogprobs } from './logprobs.js';
import { checkSampling, SAMPLING_DEFAULTS, type SamplingOptions, type Steering } from './sampler.js';

/** How a text is written: its length, its ends, and how tokens are chosen. */
export interface GenerateOptions extends Partial<SamplingOptions> {
  /** At most this many tokens. */
  maxTokens?: number;
  /** Ends before any of these strings. */
  stop?: readonly string[];
  /** Ends before any of these tokens, besides those that end a text for the model and for its tokenizer. */
  stopTokens?: readonly number[];
  /** The same seed chooses the same tokens. */
  seed?: number;
  /** Added to the logits of tokens. */
  bias?: ReadonlyMap<number, number>;
  /** Changes logits before a token is chosen, and may end the text. */
  steering?: readonly Steering[];
  /** Tells the log probability of each token, and those of so many of the likeliest ones. */
  logprobs?: number;
  /** Stops between two tokens: the session has then read and written all tokens that were given out, and the signal's reason is thrown. */
  signal?: AbortSignal;
}

/** The values of options that are left out. */
export const GENERATE_DEFAULTS = {
  ...SAMPLING_DEFAULTS,
  maxTokens: 256,
  stop: [] as readonly string[],
  stopTokens: [] as readonly number[],
  bias: new Map() as ReadonlyMap<number, number>,
  steering: [] as readonly Steering[],
} as const;

type Unset = 'seed' | 'signal' | 'logprobs';
/** The same with every default filled in. */
export type GenerationSettings = Required<Omit<GenerateOptions, Unset>> & Pick<GenerateOptions, Unset>;

/** Throws `ConfigError` for a value outside its range. */
export function checkGeneration(options: Partial<SamplingOptions> & GenerateOptions): void {
  checkSampling({ ...SAMPLING_DEFAULTS, ...options });
  for (const key of ['maxTokens', 'seed', 'logprobs'] as const) {
    const value = options[key];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0)) {
      throw new ConfigError(`${key} is ${value}: expected a whole number, 0 or more`);
    }
  }
  // Without types a single text is easily given: its letters would be taken for stop strings.
  for (const key of ['stop', 'stopTokens'] as const) {
    const value: unknown = options[key];
    if (value !== undefined && !Array.isArray(value))
      throw new ConfigError(`${key} is ${JSON.stringify(value)}: expected a list`);
  }
}

/** One generated token and the text that is complete with it, sometimes none. The last piece may have no token. */
export interface GeneratedPiece {
  readonly id: number | undefined;
  readonly text: string;
  /** Where they were asked for. */
  readonly logprobs?: TokenLogprobs;
}

/** A piece of the fork with this index. */
export interface ForkPiece extends GeneratedPiece {
  readonly index: number;
}

/** Why a text ended: with a stop token, before a stop string, or at `maxTokens`. */
export type StopReason = 'token' | 'string' | 'length';
