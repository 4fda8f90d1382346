/** The options of text generation, their defaults and limits, and its results. */
import { ConfigError } from '../errors.js';
import type { TokenLogprobs } from './logprobs.js';
import { checkSampling, SAMPLING_DEFAULTS, type SamplingOptions, type Steering } from './sampler.js';

/** The options of generation: length, ends, and sampling. */
export interface GenerateOptions extends Partial<SamplingOptions> {
  /** The most tokens. */
  maxTokens?: number;
  /** Generation ends before any of these strings. */
  stop?: readonly string[];
  /** Generation ends before any of these tokens, in addition to the end-of-text tokens of the model and its tokenizer. */
  stopTokens?: readonly number[];
  /** The seed of sampling: the same seed gives the same tokens. */
  seed?: number;
  /** Added to the logits of tokens. */
  bias?: ReadonlyMap<number, number>;
  /**
   * A JSON schema: the text is JSON that it holds for, complete within `maxTokens` unless `stop`, `stopTokens` or the signal end it before.
   * Throws `ConfigError` if `maxTokens` has no room for the shortest such text, and for a schema that cannot be enforced, with the place in it.
   * A tokenizer that has no token for some bytes can come to a point where no token goes on: that throws `DataError`.
   */
  schema?: unknown;
  /** Processors that change logits before sampling, and may end the text. */
  steering?: readonly Steering[];
  /** Returns the log probability of each token, and those of this many most likely ones. */
  logprobs?: number;
  /** Aborts between two tokens: the session then has exactly the tokens that were returned, and the signal's reason is thrown. */
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

type Unset = 'seed' | 'signal' | 'logprobs' | 'schema';
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
  // Without TypeScript a single string is easily passed, and its letters would become stop strings.
  for (const key of ['stop', 'stopTokens'] as const) {
    const value: unknown = options[key];
    if (value !== undefined && !Array.isArray(value))
      throw new ConfigError(`${key} is ${JSON.stringify(value)}: expected a list`);
  }
  if (options.bias !== undefined && !(options.bias instanceof Map))
    throw new ConfigError('bias is no Map: expected a Map of tokens and what is added to their logits');
}

/** One generated token and the text that it completes, which may be empty. The last piece may have no token. */
export interface GeneratedPiece {
  readonly id: number | undefined;
  readonly text: string;
  /** If they were requested. */
  readonly logprobs?: TokenLogprobs;
}

/** A piece of the fork with this index. */
export interface ForkPiece extends GeneratedPiece {
  readonly index: number;
}

/** Why generation ended: at a stop token, before a stop string, or at `maxTokens`. */
export type StopReason = 'token' | 'string' | 'length';
