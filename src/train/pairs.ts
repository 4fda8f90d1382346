/** Training on pairs of source and target. Only the target has a loss. */
import { sha256 } from '#platform';
import type { TensorData } from '../engine/index.js';
import { DataError, TokenizerError } from '../errors.js';
import { multiply, reshape, sum } from '../graph/index.js';
import { PAIR_SEPARATOR, type TextPair, type Tokenizer } from '../text/index.js';
import { shuffled } from './batches.js';
import { batched, type DataSource, type ExampleInput, type Examples, type Objective } from './data.js';
import { expectKnownTokens, tokensSaid } from './text.js';

/** A pair as tokens: source, separator, target and the end of the text; or a conversation with its answers. */
export interface EncodedPair {
  readonly tokens: Int32Array;
  /** Tokens before the target. */
  readonly prefix: number;
  /** The ranges of tokens that are learned, if they are not all that follow the prefix. */
  readonly learned?: readonly (readonly [from: number, to: number])[];
  /** Where it is in its file, for error messages. */
  readonly place?: string;
  /** The inputs of a model's `source`, by name, each flat. */
  readonly inputs?: Readonly<Record<string, TensorData>>;
}

/**
 * The tokens after a source: the end-of-text token that begins the text, an optional prompt with a separator, and the target with its end. Throws
 * as `encodePair` does.
 */
export function encodeAnswer(
  tokenizer: Tokenizer,
  { prompt, target }: { prompt?: string; target: string },
): EncodedPair {
  const end = endOf(tokenizer);
  const before = [end, ...(prompt === undefined ? [] : tokenizer.encode(`${prompt}${PAIR_SEPARATOR}`))];
  return {
    tokens: Int32Array.from([...before, ...tokenizer.encode(target), end]),
    prefix: before.length,
  };
}

function endOf({ endOfText }: Tokenizer): number {
  if (endOfText === undefined)
    throw new TokenizerError(
      'the tokenizer has no end-of-text token, which ends a target; name one as eos_token in its tokenizer_config.json',
    );
  return endOfText;
}

/** Throws `TokenizerError` for a tokenizer without an end-of-text token, since targets could not end. */
export function encodePair(tokenizer: Tokenizer, { source, target }: TextPair): EncodedPair {
  const endOfText = endOf(tokenizer);
  const before = tokenizer.encodeFromStart(`${source}${PAIR_SEPARATOR}`);
  return {
    tokens: Int32Array.from([...before, ...tokenizer.encode(target), endOfText]),
    prefix: before.length,
  };
}

/**
 * Next-token prediction of `tokens`, int64 [sequence + 1], where `counted` float32 [sequence] is 1, after a source with these inputs if there is
 * one.
 */
export function countedTokens(sequence: number, source?: readonly ExampleInput[]): Objective {
  return {
    inputs: [
      { name: 'tokens', dtype: 'int64', shape: [sequence + 1] },
      { name: 'counted', dtype: 'float32', shape: [sequence] },
      ...(source ?? []),
    ],
    loss(model, registry, { tokens, counted, ...read }) {
      const { losses, inside } = tokensSaid(model, registry, tokens!, source && read);
      const isCounted = reshape(counted!, [-1]);
      return {
        total: sum(multiply(losses, isCounted)),
        count: sum(counted!),
        inside: { ...inside, counted: isCounted },
      };
    },
  };
}

/**
 * Pairs, one an example, reshuffled in each epoch. Throws `DataError` for a pair of more than `settings.sequence` + 1 tokens, for a pair without
 * the model's source, and for an empty list.
 */
export function pairData(training: readonly EncodedPair[], validation: readonly EncodedPair[]): DataSource {
  return (model, { sequence, seed }) => {
    if (training.length === 0 || validation.length === 0)
      throw new DataError('there are no pairs to learn from, or none to hold out');
    for (const { tokens, place = 'a pair' } of [...training, ...validation]) {
      expectKnownTokens(tokens, model);
      if (tokens.length <= sequence + 1) continue;
      throw new DataError(
        `${place} has ${tokens.length} tokens, and a sequence ${sequence + 1}: use a longer --sequence, or leave it out`,
      );
    }
    const source = model.source?.modality.inputs.map(({ name, dtype, shape }) => ({
      ...{ name, dtype },
      shape: shape.map(Number),
    }));
    for (const { inputs: given = {} } of [...training, ...validation]) {
      const names = (source ?? []).map(({ name }) => name).join(', ');
      if (Object.keys(given).join(', ') === names) continue;
      throw new DataError(
        names === ''
          ? 'a pair has a source of its own, and the model reads none'
          : `a pair lacks what the model reads before it writes: ${names}`,
      );
    }
    const order = shuffled(training.length, seed);
    const take =
      (at: (i: number) => EncodedPair): Examples['take'] =>
      (first, count) => {
        const tokens = new BigInt64Array(count * (sequence + 1));
        const counted = new Float32Array(count * sequence);
        for (let i = 0; i < count; i++) {
          const pair = at(first + i);
          for (const [j, token] of pair.tokens.entries()) tokens[i * (sequence + 1) + j] = BigInt(token);
          const { prefix, learned = [[prefix, pair.tokens.length]] } = pair;
          for (const [from, to] of learned)
            counted.fill(1, i * sequence + Math.max(0, from - 1), i * sequence + to - 1);
        }
        const read = Array.from({ length: count }, (_, i) => at(first + i).inputs!);
        return { tokens, counted, ...batched(source ?? [], read) };
      };
    return {
      objective: countedTokens(sequence, source),
      training: { take: take((i) => training[order(i)]!) },
      validation: { count: validation.length, take: take((i) => validation[i]!) },
      identity: { pairs: digestOf(training), 'held-out pairs': digestOf(validation) },
    };
  };
}

function digestOf(pairs: readonly EncodedPair[]): string {
  const hash = sha256();
  for (const { tokens, prefix, learned = [], inputs = {} } of pairs) {
    hash.update(`${[prefix, ...learned.flat()].join(' ')} ${tokens.join()};`);
    for (const { buffer, byteOffset, byteLength } of Object.values(inputs))
      hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}
