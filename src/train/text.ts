/** Training of language models: next-token prediction. */
import { DataError } from '../errors.js';
import { crossEntropy, reshape, scalar, slice, sum, type Tensor } from '../graph/index.js';
import { forward, forwardAfter, logitsOf, type Model } from '../models/index.js';
import type { ParameterRegistry } from '../nn/index.js';
import { Batches, consecutive } from './batches.js';
import {
  type BatchLoss,
  type DataSource,
  digestOf,
  elements,
  type FiniteExamples,
  type Objective,
} from './data.js';
import { checkSequence } from './settings.js';

/** Negative log-likelihoods, in nats, of each next token in int64 tokens [batch, sequence + 1]: [batch * sequence]. */
export function tokenLosses(model: Model, registry: ParameterRegistry, tokens: Tensor): Tensor {
  return tokensSaid(model, registry, tokens).losses;
}

/**
 * The same, with the model's outputs. `source` are the inputs of the source by name, for models that have one.
 */
export function tokensSaid(
  model: Model,
  registry: ParameterRegistry,
  tokens: Tensor,
  source?: Readonly<Record<string, Tensor>>,
): { losses: Tensor; inside: NonNullable<BatchLoss['inside']> } {
  const length = tokens.shape[1] as number;
  const ids = slice(tokens, 1, 0, length - 1);
  const { hidden, residuals } = source
    ? forwardAfter(model, registry, source, ids)
    : forward(model, registry, ids, scalar(0, 'int64'));
  const logits = logitsOf(model, registry, reshape(hidden, [-1, hidden.shape.at(-1)!]));
  const losses = crossEntropy(logits, reshape(slice(tokens, 1, 1, length), [-1]));
  return { losses, inside: { logits, residuals } };
}

/** Next-token prediction of `tokens`, int64 [sequence + 1]. */
export function nextTokens(sequence: number): Objective {
  return {
    inputs: [{ name: 'tokens', dtype: 'int64', shape: [sequence + 1] }],
    loss(model, registry, { tokens }) {
      const { losses, inside } = tokensSaid(model, registry, tokens!);
      return { total: sum(losses), count: elements([tokens!.shape[0]!, sequence]), inside };
    },
  };
}

/** Training and held-out token ids, each one concatenated corpus. */
export function textData(training: Int32Array, validation: Int32Array): DataSource {
  return (model, { sequence, seed }) => {
    if (training.length === 0) throw new DataError('the corpus is empty: there is nothing to learn from');
    for (const tokens of [training, validation]) expectKnownTokens(tokens, model);
    const batches = new Batches(training, sequence, seed);
    return {
      objective: nextTokens(sequence),
      training: { take: (first, count) => ({ tokens: batches.take(first, count) }) },
      validation: heldOut(validation, sequence),
      identity: { 'held-out text': digestOf(validation), corpus: digestOf(training) },
    };
  };
}

/** Throws `DataError` for a token outside the model's vocabulary. */
export function expectKnownTokens(tokens: Int32Array, { vocabSize }: Model): void {
  const highest = tokens.reduce((a, b) => Math.max(a, b), 0);
  if (highest < vocabSize) return;
  throw new DataError(
    `the tokenizer gives the id ${highest}, but the model has ${vocabSize} tokens: use the tokenizer that it was made for`,
  );
}

/** Held-out tokens in consecutive sequences. Throws `DataError` if they do not fill one, `ConfigError` for an invalid length. */
export function heldOut(tokens: Int32Array, sequence: number): FiniteExamples {
  checkSequence(sequence);
  const rows = consecutive(tokens, sequence);
  if (rows.length === 0) {
    throw new DataError(
      `the validation text has ${tokens.length} tokens, fewer than one sequence of ${sequence} and its last target: use more text or a shorter --sequence`,
    );
  }
  const width = sequence + 1;
  return {
    count: rows.length,
    take(first, count) {
      const data = new BigInt64Array(count * width);
      for (let i = 0; i < count; i++) data.set(rows[first + i]!, i * width);
      return { tokens: data };
    },
  };
}
