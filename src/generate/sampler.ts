/**
 * From logits to the next token. In this order: biases, penalties, what steers the text (a grammar, say), the temperature, and the
 * cut to the likeliest tokens, among which one is drawn. The same seed draws the same tokens.
 */
import type { WritingRow } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import { Random } from '../nn/index.js';
import { likeliest, likeliestOf } from './likeliest.js';

/** How a token is chosen by its logits. */
export interface SamplingOptions {
  /** 0 takes the most likely token; higher values flatten the distribution. */
  temperature: number;
  /** Only this many tokens, the most likely ones; 0 for all. */
  topK: number;
  /** Only the most likely tokens that together have this probability; 1 for all. */
  topP: number;
  /** Only tokens that have at least this part of the probability of the most likely one; 0 for all. */
  minP: number;
  /** Divides positive logits of tokens that occurred before, and multiplies negative ones (Keskar et al., 2019); 1 for none. */
  repetitionPenalty: number;
  /** Taken from the logits of tokens that were written, once. */
  presencePenalty: number;
  /** Taken from the logits of tokens that were written, each time. */
  frequencyPenalty: number;
}

/** What is used where nothing else is said. */
export const SAMPLING_DEFAULTS: Readonly<SamplingOptions> = {
  temperature: 0.8,
  topK: 0,
  topP: 0.95,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

/** Changes the choices of one text. */
export interface Steering {
  /** Changes logits in place, -Infinity for what must not be chosen. `left` tokens may be written, this one included. */
  steer(logits: Float32Array, left: number): void;
  /** The tokens that `steer` left the last time, if those are few: then no others are looked at. */
  readonly candidates?: readonly number[] | undefined;
  /** A token was chosen. Returns whether the text is complete with it. */
  chosen(id: number): boolean;
}

/** How a sampler chooses tokens. */
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

/** Throws `DataError` for the logit of a chosen token that is no number. */
export function expectNumber(logit: number): void {
  if (Number.isFinite(logit)) return;
  throw new DataError(
    `the logit of the chosen token is ${logit}: the model's weights are damaged, or diverged`,
  );
}

/** Where `topP` or `minP` alone cuts, it looks among so many of the likeliest tokens. */
export const CANDIDATES = 1024;

/** Chooses the tokens of one text. */
export class Sampler {
  private readonly random: Random;
  /** A copy of the logits, where they are changed. */
  private scratch = new Float32Array();
  /** The tokens that occurred, where a penalty asks for them. */
  private readonly occurred: Set<number> | undefined;
  /** How often each was written, where a penalty asks for it. */
  private readonly written: Map<number, number> | undefined;

  /** `occurred` are the tokens that came before. */
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
   * The token that follows logits [vocabulary], which stay as they are, where `left` tokens may be written. Throws `DataError` for
   * logits that are no numbers.
   */
  choose(logits: Float32Array, left: number): number {
    const uniform = this.random.uniform();
    const { scores, ids } = this.adjusted(logits, left);
    const id = this.drawn(scores, uniform, ids);
    expectNumber(logits[id]!);
    return id;
  }

  /**
   * How the next tokens are drawn, `count` of them, where nothing but their own logits has a say and one of few is taken: then a device can
   * do it. Undefined elsewhere; the numbers that it names are drawn.
   */
  ahead(count: number): Pick<WritingRow, 'temperature' | 'topK' | 'topP' | 'minP' | 'uniforms'> | undefined {
    const { bias, steering, temperature, topK, topP, minP } = this.options;
    if (bias.size > 0 || steering.length > 0 || this.occurred || this.written) return undefined;
    const uniforms = (): number[] => Array.from({ length: count }, () => this.random.uniform());
    if (temperature === 0) return { temperature: 1, topK: 1, topP, minP: 0, uniforms: uniforms() };
    if (topK > CANDIDATES || (topK === 0 && topP === 1 && minP === 0)) return undefined;
    return { temperature, topK: topK === 0 ? CANDIDATES : topK, topP, minP, uniforms: uniforms() };
  }

  /** A token was written. Returns whether the text is complete with it. */
  accept(id: number): boolean {
    this.occurred?.add(id);
    this.written?.set(id, (this.written.get(id) ?? 0) + 1);
    return this.options.steering.map((each) => each.chosen(id)).includes(true);
  }

  /** What to choose by, and among which tokens if not all. */
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
    for (const [id, amount] of bias) if (id < scores.length) scores[id]! += amount;
    for (const [id, count] of written ?? []) scores[id]! -= presencePenalty + frequencyPenalty * count;
    for (const id of occurred ?? []) {
      scores[id] = scores[id]! > 0 ? scores[id]! / repetitionPenalty : scores[id]! * repetitionPenalty;
    }
    // What steering leaves out must stay out: it comes last.
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
   * The candidates are in order, likeliest first (of equal ones the lower token); the first is taken whose share, added to
   * those before it, exceeds the random number.
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

/** Nats below the most likely token at which a share counts as none: 1e-13 of it, at the temperature 1. */
const SMALLEST_SHARE = 30;

function largestOf(scores: Float32Array): number {
  let best = 0;
  for (let id = 1; id < scores.length; id++) if (scores[id]! > scores[best]!) best = id;
  return best;
}

/** In the vocabulary's order. */
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
