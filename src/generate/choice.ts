/**
 * From logits to the next token, inside the graph. What a choice does not need is not computed: penalties, the cut to the
 * likeliest tokens and the draw stand in loops of one iteration or none, by how many rows certain inputs have.
 *
 * Cut to the k likeliest, or to those that together have the probability p, the candidates are in order, likeliest first (of
 * equal ones the lower token), and the first is taken whose share of the probability, added to those before it, exceeds the
 * random number. Uncut, they are in the vocabulary's order.
 */
import { float32, type HostTensor, hostZeros, int64 } from '../engine/index.js';
import type { Program } from '../engine/loop/index.js';
import { DataError } from '../errors.js';
import {
  add,
  addDims,
  cast,
  cumulativeSum,
  type Dim,
  divide,
  either,
  equal,
  exp,
  gatherElements,
  input,
  iota,
  less,
  lessOrEqual,
  max,
  minimum,
  multiply,
  reshape,
  scatterElements,
  slice,
  subtract,
  sum,
  type Tensor,
  topK,
  when,
  where,
} from '../graph/index.js';
import { CANDIDATES, type SamplingOptions } from './sampling.js';

/** The inputs that say how to choose, at so many places. */
export interface ChoiceInputs {
  /** float32 [places, 1]: more than 0. */
  readonly temperature: Tensor;
  /** float32 [places, 1] */
  readonly topP: Tensor;
  readonly penalty: Tensor;
  /** int64 [places, 1]: among how many of the likeliest tokens to choose, or 0 for all. */
  readonly topK: Tensor;
  /** float32 [penalized, places, vocabulary]: 1 for tokens that occurred; no rows without a penalty. */
  readonly occurred: Tensor;
  /**
   * [cut, candidates]: its sizes are all that counts. One row where some places choose among that many of the likeliest tokens
   * or fewer, else none.
   */
  readonly cut: Tensor;
  /** [whole]: one entry where some choose among all tokens, else none. With neither the likeliest token is taken. */
  readonly whole: Tensor;
}

export function choiceInputs(vocabSize: number, places: Dim): ChoiceInputs {
  return {
    temperature: input('temperature', 'float32', [places, 1]),
    topP: input('topP', 'float32', [places, 1]),
    penalty: input('penalty', 'float32', [places, 1]),
    topK: input('topK', 'int64', [places, 1]),
    occurred: input('occurred', 'float32', ['penalized', places, vocabSize]),
    cut: input('cut', 'float32', ['cut', 'candidates']),
    whole: input('whole', 'float32', ['whole']),
  };
}

/** The next tokens int64 [places] for logits [places, vocabulary] and uniform random numbers [places] in [0, 1). */
export function chooseTokens(logits: Tensor, random: Tensor, inputs: ChoiceInputs, occurred: Tensor): Tensor {
  // Made where they are needed: a choice between logits copies them, and they are many.
  const lessened = (): Tensor => penalized(logits, inputs.penalty, occurred);
  const scores = (): Tensor => when('penalized', logits, lessened);
  const likeliest = (of: Tensor): Tensor => reshape(topK(of, 1, 1).indices, [-1]);
  const [amongSome] = either(
    'cut',
    () => [drawCut(scores(), random, inputs)],
    () =>
      either(
        'penalized',
        () => [likeliest(lessened())],
        () => [likeliest(logits)],
      ),
  ) as [Tensor];
  return when('whole', amongSome, () => {
    const isWhole = equal(reshape(inputs.topK, [-1]), 0);
    return where(isWhole, drawWhole(scores(), random, inputs.temperature), amongSome);
  });
}

/** `occurred` with the tokens int64 [places] added. */
export function withOccurred(occurred: Tensor, tokens: Tensor): Tensor {
  return when('penalized', occurred, () => {
    const [rows, batch] = occurred.shape as [Dim, Dim];
    const places = add(reshape(tokens, [1, batch, 1]), multiply(reshape(iota(rows), [rows, 1, 1]), 0));
    const ones = add(multiply(cast(places, 'float32'), 0), 1);
    return minimum(scatterElements(occurred, places, ones, 2), 1);
  });
}

/** Divides positive logits of tokens that occurred, and multiplies negative ones (Keskar et al., 2019). */
function penalized(logits: Tensor, penalty: Tensor, occurred: Tensor): Tensor {
  const [, batch, vocabulary] = occurred.shape as [Dim, Dim, Dim];
  const present = reshape(slice(occurred, 0, 0, 1), [batch, vocabulary]);
  const weaker = where(less(0, logits), divide(logits, penalty), multiply(logits, penalty));
  return where(less(0.5, present), weaker, logits);
}

function drawCut(scores: Tensor, random: Tensor, { temperature, topP, topK: count }: ChoiceInputs): Tensor {
  const { values, indices } = topK(scores, 'candidates', 1);
  const shares = exp(divide(subtract(values, slice(values, 1, 0, 1)), temperature));
  const all = where(less(reshape(iota('candidates'), [1, -1]), count), shares, 0);
  const running = cumulativeSum(all, 1);
  const enough = multiply(sum(all, 1, { keepDims: true }), topP);
  // A candidate is kept while those before it have not the probability yet.
  const kept = where(less(subtract(running, all), enough), all, 0);
  const place = placeOf(kept, random);
  return reshape(gatherElements(indices, place, 1), [-1]);
}

function drawWhole(scores: Tensor, random: Tensor, temperature: Tensor): Tensor {
  const weights = exp(divide(subtract(scores, max(scores, 1, { keepDims: true })), temperature));
  return reshape(placeOf(weights, random), [-1]);
}

/** The first place [batch, 1] at which the running sum of weights [batch, n] exceeds the share `random` of the whole. */
function placeOf(weights: Tensor, random: Tensor): Tensor {
  const running = cumulativeSum(weights, 1);
  const size = weights.shape[1]!;
  const total = slice(running, 1, addDims(size, -1), size);
  const passed = lessOrEqual(running, multiply(total, reshape(random, [-1, 1])));
  // Rounding must not lead past the last weight that is not zero.
  const before = less(running, total);
  const count = (flags: Tensor): Tensor => sum(cast(flags, 'int64'), 1, { keepDims: true });
  return minimum(count(passed), count(before));
}

/** The choice alone: `logits` [places, vocabulary] and `random` [places] to `tokens` int64 [places]. */
export function choiceProgram(vocabSize: number): Program {
  const inputs = choiceInputs(vocabSize, 'places');
  const logits = input('logits', 'float32', ['places', vocabSize]);
  const random = input('random', 'float32', ['places']);
  return {
    outputs: { tokens: chooseTokens(logits, random, inputs, inputs.occurred) },
    sizes: [inputs.cut, inputs.whole],
  };
}

/** How tokens are chosen, besides the random numbers. */
export interface Choosing extends SamplingOptions {
  /** Tokens that end a sequence. */
  readonly ends: readonly number[];
  /** The tokens that occurred; read only where there is a penalty. */
  readonly occurred: Iterable<number>;
}

/** Takes the likeliest token, whatever it is. */
export const LIKELIEST: Choosing = {
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  ends: [],
  occurred: [],
};

/** Beyond these, quotients of float32 numbers are not finite, and nothing changes. */
const TEMPERATURES = [1e-5, 1e30] as const;

/** What is fed to choose one token in each of these ways. */
export function choiceFeeds(places: readonly Choosing[], vocabSize: number): Record<string, HostTensor> {
  const counts = places.map((choosing) => candidatesOf(choosing, vocabSize));
  const candidates = counts.reduce((a, b) => Math.max(a, b), 1);
  const penalized = places.some(({ repetitionPenalty }) => repetitionPenalty !== 1) ? 1 : 0;
  const occurred = hostZeros('float32', [penalized, places.length, vocabSize]);
  for (const [place, choosing] of places.entries()) {
    if (choosing.repetitionPenalty === 1) continue;
    for (const token of choosing.occurred) occurred.data[place * vocabSize + token] = 1;
  }
  const [coldest, hottest] = TEMPERATURES;
  const each = (pick: (choosing: Choosing) => number): HostTensor =>
    float32(places.map(pick), [places.length, 1]);
  return {
    temperature: each(({ temperature }) =>
      temperature > 0 ? Math.min(hottest, Math.max(coldest, temperature)) : 1,
    ),
    topP: each(({ topP }) => topP),
    penalty: each(({ repetitionPenalty }) => repetitionPenalty),
    topK: int64(counts, [places.length, 1]),
    occurred,
    cut: hostZeros('float32', [counts.some((count) => count > 1) ? 1 : 0, candidates]),
    whole: hostZeros('float32', [counts.includes(0) ? 1 : 0]),
  };
}

/** Among how many of the likeliest tokens is chosen: 1 is the likeliest, 0 are all. */
function candidatesOf({ temperature, topK, topP }: Choosing, vocabSize: number): number {
  if (temperature === 0) return 1;
  if (topP === 1 && topK >= vocabSize) return 0;
  if (topK > 0) return Math.min(vocabSize, topK);
  return topP < 1 ? Math.min(vocabSize, CANDIDATES) : 0;
}

/** Throws `DataError` where a token was chosen from logits [vocabulary] that are no numbers. */
export function checkChoice(token: number, logits: Float32Array): void {
  const logit = logits[token]!;
  if (!Number.isFinite(logit)) {
    throw new DataError(
      `the logit of the chosen token is ${logit}: the model's weights are damaged, or diverged`,
    );
  }
}
