/**
 * The arithmetic that a model asks for, by the usual count: a multiplication and an addition for each parameter and
 * token forward, and twice that backward. What mixers do beyond their parameters (attention over the context, the
 * recurrence) is left out, so that rates of different models compare.
 */
import { countParameters, type Model, parametersOf } from '../models/index.js';

/** The parameters of a model, by what is computed with them. */
export interface ParameterCount {
  /** All of them. */
  total: number;
  /** Those that each token is multiplied with: all but the input embedding. Where it is tied it counts as the head. */
  computed: number;
  /** Those of the head, which prefill applies to the last token of a chunk only. */
  head: number;
}

/** Counts them. */
export function countWork(model: Model): ParameterCount {
  const { vocabSize, hiddenSize, tieWordEmbeddings } = model;
  const total = countParameters(parametersOf(model));
  const head = vocabSize * hiddenSize;
  return { total, computed: tieWordEmbeddings ? total : total - head, head };
}

/** Floating-point operations of a training step over `tokens` tokens. */
export function trainingFlops({ computed }: ParameterCount, tokens: number): number {
  return 6 * computed * tokens;
}

/** Floating-point operations of reading `tokens` tokens without asking for logits. */
export function prefillFlops({ computed, head }: ParameterCount, tokens: number): number {
  return 2 * (computed - head) * tokens;
}

/** Floating-point operations of writing `tokens` tokens. */
export function decodeFlops({ computed }: ParameterCount, tokens: number): number {
  return 2 * computed * tokens;
}
