/**
 * A task is made of examples that a seed gives: tokens, and what is to be said after some of them. A model is asked for it as
 * for any next token; the likeliest one decides, and nothing between is scored.
 */
import type { Random } from '../nn/index.js';

export interface Example {
  /** Ids below the task's vocabulary. */
  readonly tokens: readonly number[];
  /** What is to be said by a model that has read the tokens up to the one at `after`, in that order. */
  readonly answers: readonly { readonly after: number; readonly token: number }[];
}

/** An example whose answers stand among its tokens, at these places: each is due before it is read. */
export function said(tokens: readonly number[], places: readonly number[]): Example {
  return {
    tokens: tokens.slice(0, -1),
    answers: [...places].sort((a, b) => a - b).map((place) => ({ after: place - 1, token: tokens[place]! })),
  };
}

export interface Task {
  readonly name: string;
  /** What is asked, in a line for a person. */
  readonly about: string;
  /** Whose task it is: authors, year, arXiv. */
  readonly source: string;
  readonly vocabulary: number;
  /** The share of answers that somebody has right who guesses as well as can be without reading. */
  readonly chance: number;
  /** Tokens that an example reads when a model is trained, and when it is tested. */
  readonly lengths: { readonly train: number; readonly test: readonly number[] };
  /** Accuracy that others published, and for what. */
  readonly reference?: { readonly accuracy: number; readonly of: string };
  /** An example of exactly `length` tokens. Throws `ConfigError` where the length has no room for one. */
  sample(random: Random, length: number): Example;
}

/** `count` different numbers below `limit`, in random order. */
export function distinct(random: Random, count: number, limit: number): number[] {
  const chosen = new Set<number>();
  // Floyd's algorithm: as many draws as numbers, however large the limit.
  for (let top = limit - count; top < limit; top++) {
    const at = random.below(top + 1);
    chosen.add(chosen.has(at) ? top : at);
  }
  const list = [...chosen];
  return [...random.permutation(count)].map((i) => list[i]!);
}
