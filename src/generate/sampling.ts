/** From logits to the next token. */
import { ConfigError, DataError } from '../errors.js';
import type { Random } from '../nn/index.js';

export interface SamplingOptions {
  /** 0 takes the most likely token; higher values flatten the distribution. */
  temperature: number;
  /** Only this many tokens, the most likely ones; 0 for all. */
  topK: number;
  /** Only the most likely tokens that together have this probability; 1 for all. */
  topP: number;
  /** Divides positive logits of tokens that occurred before, and multiplies negative ones (Keskar et al., 2019); 1 for none. */
  repetitionPenalty: number;
}

/** Throws `ConfigError` for a value outside its range. */
export function checkSampling({ temperature, topK, topP, repetitionPenalty }: SamplingOptions): void {
  const expect = (holds: boolean, text: string): void => {
    if (!holds) throw new ConfigError(text);
  };
  expect(
    temperature >= 0 && Number.isFinite(temperature),
    `temperature is ${temperature}: expected 0 or more`,
  );
  expect(Number.isInteger(topK) && topK >= 0, `topK is ${topK}: expected a whole number, 0 for all tokens`);
  expect(topP > 0 && topP <= 1, `topP is ${topP}: expected more than 0 and at most 1`);
  expect(
    repetitionPenalty > 0 && Number.isFinite(repetitionPenalty),
    `repetitionPenalty is ${repetitionPenalty}: expected more than 0`,
  );
}

/**
 * Chooses a token from `logits` [vocabulary]. `seen` are the tokens that occurred before. Throws `DataError` for logits
 * that are no numbers.
 */
export function sample(
  logits: Float32Array,
  options: SamplingOptions,
  seen: ReadonlySet<number>,
  random: Random,
): number {
  const { temperature, topK, topP, repetitionPenalty } = options;
  const scores = Float64Array.from(logits);
  if (repetitionPenalty !== 1) {
    for (const token of seen) {
      const score = scores[token]!;
      scores[token] = score > 0 ? score / repetitionPenalty : score * repetitionPenalty;
    }
  }
  const highest = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  if (!Number.isFinite(highest)) {
    throw new DataError(`the highest logit is ${highest}: the model's weights are damaged, or diverged`);
  }
  if (temperature === 0) return scores.indexOf(highest);

  let candidates = Array.from(scores.keys());
  const truncated = (topK > 0 && topK < candidates.length) || topP < 1;
  // Of equal scores the lower token comes first, so that a seed decides alike everywhere.
  if (truncated) candidates.sort((a, b) => scores[b]! - scores[a]! || a - b);
  if (topK > 0) candidates = candidates.slice(0, topK);
  let weights = candidates.map((token) => Math.exp((scores[token]! - highest) / temperature));
  let total = weights.reduce((a, b) => a + b, 0);
  if (topP < 1) {
    let kept = 0;
    let mass = 0;
    while (kept < weights.length && mass < topP * total) mass += weights[kept++]!;
    candidates = candidates.slice(0, kept);
    weights = weights.slice(0, kept);
    total = mass;
  }
  let left = random.uniform() * total;
  for (const [i, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return candidates[i]!;
  }
  return candidates.at(-1)!;
}
