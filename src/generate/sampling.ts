/** What decides on the next token; choice.ts computes it. */
import { ConfigError } from '../errors.js';

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

/** Where `topP` alone cuts, it looks among so many of the likeliest tokens. */
export const CANDIDATES = 1024;
