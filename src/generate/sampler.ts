/**
 * Samples the next token from logits. The order is: biases, penalties, steering (such as a grammar), temperature, and the truncation to the
 * most likely tokens (top-k, top-p, min-p). The same seed draws the same tokens.
 */
import type { WritingRow } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import { Random } from '../nn/index.js';
import { likeliest, likeliestOf } from './likeliest.js';

/** The sampling parameters. */
export interface SamplingOptions {
  /** 0 is greedy; higher values flatten the distribution. */
  temperature: number;
  /** Only this many tokens, the most likely ones; 0 for all. */
  topK: number;
  /** Only the most likely tokens that together have this probability; 1 for all. */
  topP: number;
  /** Only tokens that have at least this part of the probability of the most likely one; 0 for all. */
  minP: number;
  /** Divides positive logits of tokens that occurred before, and multiplies negative ones (Keskar et al., 2019); 1 has no effect. */
  repetitionPenalty: number;
  /** Subtracted once from the logits of tokens that were generated. */
  presencePenalty: number;
  /** Subtracted from the logits of tokens for each time that they were generated. */
  frequencyPenalty: number;
}

/** The defaults. */
export const SAMPLING_DEFAULTS: Readonly<SamplingOptions> = {
  temperature: 0.8,
  topK: 0,
  topP: 0.95,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

/** A stateful logits processor for one text. */
export interface Steering {
  /** Changes logits in place; -Infinity excludes a token. `left` tokens remain, including this one. */
  steer(logits: Float32Array, left: number): void;
  /** The tokens that the last `steer` allowed, if they are few: then only these are considered. */
  readonly candidates?: readonly number[] | undefined;
  /** Called with each sampled token. Returns whether the text is complete. */
  chosen(id: number): boolean;
}

/** The options of a sampler. */
export interface SamplerOptions extends SamplingOptions {
  seed: number;
  /** Added to the logits of tokens. */
  bias: ReadonlyMap<number, number>;
  steering: readonly Steering[];
}

/** Throws `ConfigError` for a value outside its range. */
export function checkSampling(options: SamplingOptions): void {
  const { temperature, topK, topP, minP, repetitionPenalty } = options;
  const expect = (holds: boolean, text: string): void => {
    if (!holds) throw new ConfigError(text);
  };
  expect(
    temperature >= 0 && Number.isFinite(temperature),
    `temperature is ${temperature}: expected 0 or more`,
  );
  expect(Number.isInteger(topK) && topK >= 0, `topK is ${topK}: expected a whole number, 0 for all tokens`);
  expect(topP > 0 && topP <= 1, `topP is ${topP}: expected more than 0 and at most 1`);
  expect(minP >= 0 && minP <= 1, `minP is ${minP}: expected a number from 0 to 1`);
  expect(
    repetitionPenalty > 0 && Number.isFinite(repetitionPenalty),
    `repetitionPenalty is ${repetitionPenalty}: expected more than 0`,
  );
  for (const name of ['presencePenalty', 'frequencyPenalty'] as const) {
    expect(Number.isFinite(options[name]), `${name} is ${options[name]}: expected a number`);
  }
}

/** Throws `DataError` if the logit of a sampled token is NaN. */
export function expectNumber(logit: number): void {
  if (Number.isFinite(logit)) return;
  throw new DataError(
    `the logit of the chosen token is ${logit}: the model's weights are damaged, or diverged`,
  );
}

/** `topP` and `minP` without `topK` consider this many of the most likely tokens. */
export const CANDIDATES = 1024;

/** Samples the tokens of one text. */
export class Sampler {
  private readonly random: Random;
  /** A copy of the logits, if they are changed. */
  private scratch = new Float32Array();
  /** The tokens that occurred, if a penalty needs them. */
  private readonly occurred: Set<number> | undefined;
  /** How often each token was generated, if a penalty needs it. */
  private readonly written: Map<number, number> | undefined;

  /** `occurred` are the tokens before the first one. */
  constructor(
    private readonly options: SamplerOptions,
    occurred: Iterable<number>,
  ) {
    const { repetitionPenalty, presencePenalty, frequencyPenalty, seed } = options;
    this.random = new Random(seed);
    if (repetitionPenalty !== 1) this.occurred = new Set(occurred);
    if (presencePenalty !== 0 || frequencyPenalty !== 0) this.written = new Map();
  }

  /**
   * Samples a token from logits [vocabulary], which are not changed; `left` tokens remain. Throws `DataError` for logits that are NaN.
   */
  choose(logits: Float32Array, left: number): number {
    const uniform = this.random.uniform();
    const { scores, ids } = this.adjusted(logits, left);
    const id = this.drawn(scores, uniform, ids);
    expectNumber(logits[id]!);
    return id;
  }

  /**
   * The parameters, with random numbers, for sampling the next `count` tokens on a device. Undefined if the choice depends on more than the
   * logits, or on too many candidates; no random numbers are drawn then.
   */
  ahead(count: number): Pick<WritingRow, 'temperature' | 'topK' | 'topP' | 'minP' | 'uniforms'> | undefined {
    const { bias, steering, temperature, topK, topP, minP } = this.options;
    if (bias.size > 0 || steering.length > 0 || this.occurred || this.written) return undefined;
    const uniforms = (): number[] => Array.from({ length: count }, () => this.random.uniform());
    if (temperature === 0) return { temperature: 1, topK: 1, topP, minP: 0, uniforms: uniforms() };
    if (topK > CANDIDATES || (topK === 0 && topP === 1 && minP === 0)) return undefined;
    return { temperature, topK: topK === 0 ? CANDIDATES : topK, topP, minP, uniforms: uniforms() };
  }

  /** Accepts a generated token. Returns whether the text is complete. */
  accept(id: number): boolean {
    this.occurred?.add(id);
    this.written?.set(id, (this.written.get(id) ?? 0) + 1);
    return this.options.steering.map((each) => each.chosen(id)).includes(true);
  }

  /** The adjusted logits, and the candidates if not all tokens. */
  private adjusted(
    logits: Float32Array,
    left: number,
  ): { scores: Float32Array; ids?: readonly number[] | undefined } {
    const { bias, steering, repetitionPenalty, presencePenalty, frequencyPenalty } = this.options;
    const { occurred, written } = this;
    if (bias.size === 0 && steering.length === 0 && !occurred && !written) return { scores: logits };
    if (this.scratch.length !== logits.length) this.scratch = new Float32Array(logits.length);
    const scores = this.scratch;
    scores.set(logits);
    for (const [id, amount] of bias) scores[id]! += amount;
    for (const [id, count] of written ?? []) scores[id]! -= presencePenalty + frequencyPenalty * count;
    for (const id of occurred ?? []) {
      scores[id] = scores[id]! > 0 ? scores[id]! / repetitionPenalty : scores[id]! * repetitionPenalty;
    }
    // Steering comes last, so that nothing makes excluded tokens possible again.
    let ids: readonly number[] | undefined;
    for (const each of steering) {
      each.steer(scores, left);
      ids = each.candidates ?? ids;
    }
    return { scores, ids };
  }

  private drawn(scores: Float32Array, uniform: number, among: readonly number[] | undefined): number {
    const { temperature, topK, topP, minP } = this.options;
    if (temperature === 0 || topK === 1) return largestOf(scores);
    const cuts = topK > 0 || topP < 1 || minP > 0;
    return cuts
      ? this.drawnFromLikeliest(scores, uniform, among)
      : drawnFromAll(scores, temperature, uniform);
  }

  /**
   * Candidates are in descending order of probability (lower token first among equals). The first one whose cumulative probability exceeds the
   * random number is taken.
   */
  private drawnFromLikeliest(
    scores: Float32Array,
    uniform: number,
    among: readonly number[] | undefined,
  ): number {
    const { temperature, topK, topP, minP } = this.options;
    const most = topK > 0 ? topK : CANDIDATES;
    const within = SMALLEST_SHARE * temperature;
    const ids = among ? likeliestOf(among, scores, most, within) : likeliest(scores, most, within);
    const top = scores[ids[0]!]!;
    const shares = Float64Array.from(ids, (id) => Math.exp((scores[id]! - top) / temperature));
    const enough = topP * shares.reduce((a, b) => a + b, 0);
    let count = 0;
    let kept = 0;
    while (count < ids.length && (count === 0 || (kept < enough && shares[count]! >= minP))) {
      kept += shares[count++]!;
    }
    let running = 0;
    for (let i = 0; i < count; i++) {
      running += shares[i]!;
      if (running > uniform * kept) return ids[i]!;
    }
    return ids[count - 1]!;
  }
}

/** Nats below the most likely token beyond which a probability is taken as 0: a factor of 1e-13. */
const SMALLEST_SHARE = 30;

function largestOf(scores: Float32Array): number {
  let best = 0;
  for (let id = 1; id < scores.length; id++) if (scores[id]! > scores[best]!) best = id;
  return best;
}

/** Samples from all tokens, in the order of the vocabulary. */
function drawnFromAll(scores: Float32Array, temperature: number, uniform: number): number {
  const top = scores[largestOf(scores)]!;
  const shares = new Float64Array(scores.length);
  let total = 0;
  for (let id = 0; id < scores.length; id++) {
    shares[id] = Math.exp((scores[id]! - top) / temperature);
    total += shares[id]!;
  }
  const wanted = uniform * total;
  let running = 0;
  let last = 0;
  for (let id = 0; id < scores.length; id++) {
    if (shares[id] === 0) continue;
    running += shares[id]!;
    last = id;
    if (running > wanted) return id;
  }
  return last;
}
