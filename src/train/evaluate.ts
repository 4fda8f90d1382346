/** Loss and perplexity on held-out text. */
import type { Device, Executable, HostTensor, Program, State } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import type { Model } from '../models/index.js';
import { consecutive } from './batches.js';
import { evaluationProgram } from './program.js';

export interface Evaluation {
  /** Nats a token. */
  loss: number;
  perplexity: number;
  /** Tokens that were predicted. */
  tokens: number;
}

/** A program of `evaluationProgram` run over sequences [sequence + 1], `batch` at a time. */
export async function evaluate(
  executable: Executable,
  sequences: readonly BigInt64Array[],
  batch: number,
  state?: State,
): Promise<Evaluation> {
  const width = sequences[0]!.length;
  let total = 0;
  for (let first = 0; first < sequences.length; first += batch) {
    const group = sequences.slice(first, first + batch);
    const data = new BigInt64Array(group.length * width);
    for (const [i, row] of group.entries()) data.set(row, i * width);
    const tokens: HostTensor = { dtype: 'int64', dims: [group.length, width], data };
    const outputs = await executable.run({ tokens }, state && [state]);
    total += outputs.loss!.data[0] as number;
  }
  const count = sequences.length * (width - 1);
  const loss = total / count;
  return { loss, perplexity: Math.exp(loss), tokens: count };
}

/** The same for a model with these weights, over all of `tokens` in sequences of the given length. */
export async function evaluateModel(
  model: Model,
  weights: NonNullable<Program['weights']>,
  tokens: Int32Array,
  sequence: number,
  device: Device,
): Promise<Evaluation> {
  expectKnownTokens(tokens, model);
  const sequences = heldOut(tokens, sequence);
  const executable = await device.compile({ ...evaluationProgram(model, sequence), weights });
  try {
    return await evaluate(executable, sequences, 8);
  } finally {
    await executable.dispose();
  }
}

/** Throws `DataError` for a token that the model does not have. */
export function expectKnownTokens(tokens: Int32Array, { vocabSize }: Model): void {
  const highest = tokens.reduce((a, b) => Math.max(a, b), 0);
  if (highest < vocabSize) return;
  throw new DataError(
    `the tokenizer gives the id ${highest}, but the model has ${vocabSize} tokens: use the tokenizer that it was made for`,
  );
}

/** Held-out tokens in consecutive sequences. Throws `DataError` where they do not fill one, `ConfigError` for no length. */
export function heldOut(tokens: Int32Array, sequence: number): BigInt64Array[] {
  if (!(Number.isInteger(sequence) && sequence >= 1))
    throw new ConfigError(`sequence is ${sequence}: expected a whole number, 1 or more`);
  const sequences = consecutive(tokens, sequence);
  if (sequences.length === 0) {
    throw new DataError(
      `the validation text has ${tokens.length} tokens, fewer than one sequence of ${sequence} and its last target: use more text or a shorter --sequence`,
    );
  }
  return sequences;
}
