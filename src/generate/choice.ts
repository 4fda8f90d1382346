/**
 * From logits to the next token, inside the graph. What a choice does not need is not computed: penalties, the cut to the
 * likeliest tokens and the draw stand in loops of one iteration or none, by how many rows certain inputs have.
 *
 * Cut to the k likeliest, or to those that together have the probability p, the candidates are in order, likeliest first (of
 * equal ones the lower token), and the first is taken whose share of the probability, added to those before it, exceeds the
 * random number. Uncut, they are in the vocabulary's order.
 */
import { float32, type HostTensor, hostZeros, type Program } from '../engine/index.js';
import { DataError } from '../errors.js';
import {
  add,
  addDims,
  cast,
  cumulativeSum,
  type Dim,
  divide,
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
  /** float32 []: more than 0. */
  readonly temperature: Tensor;
  /** float32 [] */
  readonly topP: Tensor;
  readonly penalty: Tensor;
  /** float32 [penalized, places, vocabulary]: 1 for tokens that occurred; no rows without a penalty. */
  readonly occurred: Tensor;
  /** [cut, candidates]: its sizes are all that counts. One row to choose among so many of the likeliest tokens, else none. */
  readonly cut: Tensor;
  /** [whole]: one entry to choose among all tokens, else none. With neither the likeliest token is taken. */
  readonly whole: Tensor;
}

export function choiceInputs(vocabSize: number, places: Dim): ChoiceInputs {
  return {
    temperature: input('temperature', 'float32', []),
    topP: input('topP', 'float32', []),
    penalty: input('penalty', 'float32', []),
    occurred: input('occurred', 'float32', ['penalized', places, vocabSize]),
    cut: input('cut', 'float32', ['cut', 'candidates']),
    whole: input('whole', 'float32', ['whole']),
  };
}

/** The next tokens int64 [places] for logits [places, vocabulary] and uniform random numbers [places] in [0, 1). */
export function chooseTokens(logits: Tensor, random: Tensor, inputs: ChoiceInputs, occurred: Tensor): Tensor {
  const scores = penalized(logits, inputs.penalty, occurred);
  const likeliest = reshape(topK(scores, 1, 1).indices, [-1]);
  const amongSome = when('cut', likeliest, () => drawCut(scores, random, inputs));
  return when('whole', amongSome, () => drawWhole(scores, random, inputs.temperature));
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
  return when('penalized', logits, () => {
    const [, batch, vocabulary] = occurred.shape as [Dim, Dim, Dim];
    const present = reshape(slice(occurred, 0, 0, 1), [batch, vocabulary]);
    const weaker = where(less(0, logits), divide(logits, penalty), multiply(logits, penalty));
    return where(less(0.5, present), weaker, logits);
  });
}

function drawCut(scores: Tensor, random: Tensor, { temperature, topP }: ChoiceInputs): Tensor {
  const { values, indices } = topK(scores, 'candidates', 1);
  const all = exp(divide(subtract(values, slice(values, 1, 0, 1)), temperature));
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
  /** For each place the tokens that occurred; read only where there is a penalty. */
  readonly occurred: readonly Iterable<number>[];
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

/** What is fed to choose tokens at so many places. */
export function choiceFeeds(
  { temperature, topK, topP, repetitionPenalty, occurred }: Choosing,
  places: number,
  vocabSize: number,
): Record<string, HostTensor> {
  const drawn = temperature > 0;
  const isCut = drawn && ((topK > 0 && topK < vocabSize) || topP < 1);
  const candidates = Math.min(vocabSize, topK > 0 ? topK : CANDIDATES);
  const penalized = repetitionPenalty === 1 ? 0 : 1;
  const marks = hostZeros('float32', [penalized, places, vocabSize]);
  if (penalized === 1) {
    for (const [row, tokens] of occurred.entries()) {
      for (const token of tokens) marks.data[row * vocabSize + token] = 1;
    }
  }
  const [coldest, hottest] = TEMPERATURES;
  return {
    temperature: float32([drawn ? Math.min(hottest, Math.max(coldest, temperature)) : 1], []),
    topP: float32([topP], []),
    penalty: float32([repetitionPenalty], []),
    occurred: marks,
    cut: hostZeros('float32', [isCut ? 1 : 0, candidates]),
    whole: hostZeros('float32', [drawn && !isCut ? 1 : 0]),
  };
}

/** The tokens of a choice. Throws `DataError` where the last ones were chosen from logits that are no numbers. */
export function checkedChoice(tokens: HostTensor, logits: HostTensor, places: number): number[] {
  const chosen = Array.from(tokens.data, Number);
  const vocabSize = logits.dims[1]!;
  for (const [place, token] of chosen.slice(-places).entries()) {
    const logit = logits.data[place * vocabSize + token] as number;
    if (!Number.isFinite(logit)) {
      throw new DataError(
        `the logit of the chosen token is ${logit}: the model's weights are damaged, or diverged`,
      );
    }
  }
  return chosen;
}
