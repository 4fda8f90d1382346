/**
 * The arithmetic of a model by the usual count: a multiplication and an addition per parameter and token in the forward pass, and
 * twice that in the backward pass. What mixers compute beyond their parameters (attention over the context, the recurrence) is
 * excluded, so that rates of different models can be compared.
 */
import { countParameters, type Model, parametersOf } from '../models/index.js';

/** The parameter counts of a model. */
export interface ParameterCount {
  /** All of them. */
  total: number;
  /** Those used in matrix products for each token: all but the input embedding; a tied embedding counts as the head. */
  computed: number;
  /** Those of the head, which prefill applies to the last token of a chunk only. */
  head: number;
}

/** Counts the parameters of a model. */
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

/** Floating-point operations of the prefill of `tokens` tokens without logits. */
export function prefillFlops({ computed, head }: ParameterCount, tokens: number): number {
  return 2 * (computed - head) * tokens;
}

/** Floating-point operations of decoding `tokens` tokens. */
export function decodeFlops({ computed }: ParameterCount, tokens: number): number {
  return 2 * computed * tokens;
}
