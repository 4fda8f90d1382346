/** Learning to write the target of a pair from its source: what is read before the target has no loss. */
import { sha256 } from '#platform';
import { DataError, TokenizerError } from '../errors.js';
import { multiply, reshape, sum } from '../graph/index.js';
import { PAIR_SEPARATOR, type TextPair, type Tokenizer } from '../text/index.js';
import { shuffled } from './batches.js';
import type { DataSource, Examples, Objective } from './data.js';
import { expectKnownTokens, tokensSaid } from './text.js';

/** A pair as tokens: source, separator, target and the end of the text. */
export interface EncodedPair {
  readonly tokens: Int32Array;
  /** Tokens before the target. */
  readonly prefix: number;
}

/** Throws `TokenizerError` for a tokenizer without an end of text: a target could not end. */
export function encodePair(tokenizer: Tokenizer, { source, target }: TextPair): EncodedPair {
  const { endOfText } = tokenizer;
  if (endOfText === undefined)
    throw new TokenizerError(
      'the tokenizer has no end-of-text token, which ends a target; name one as eos_token in its tokenizer_config.json',
    );
  const before = tokenizer.encodeFromStart(`${source}${PAIR_SEPARATOR}`);
  return {
    tokens: Int32Array.from([...before, ...tokenizer.encode(target), endOfText]),
    prefix: before.length,
  };
}

/** Every next token of `tokens`, int64 [sequence + 1], whose `counted` float32 [sequence] is 1. */
export function countedTokens(sequence: number): Objective {
  return {
    inputs: [
      { name: 'tokens', dtype: 'int64', shape: [sequence + 1] },
      { name: 'counted', dtype: 'float32', shape: [sequence] },
    ],
    loss(model, registry, { tokens, counted }) {
      const { losses, inside } = tokensSaid(model, registry, tokens!);
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
 * Pairs in a new order each time all were seen, one an example. Throws `DataError` for a pair of more than `settings.sequence` + 1
 * tokens, and where there are none.
 */
export function pairData(training: readonly EncodedPair[], validation: readonly EncodedPair[]): DataSource {
  return (model, { sequence, seed }) => {
    if (training.length === 0 || validation.length === 0)
      throw new DataError('there are no pairs to learn from, or none to hold out');
    for (const { tokens } of [...training, ...validation]) {
      expectKnownTokens(tokens, model);
      if (tokens.length <= sequence + 1) continue;
      throw new DataError(
        `a pair has ${tokens.length} tokens, and a sequence ${sequence + 1}: use a longer --sequence, or leave the pair out`,
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
          counted.fill(1, i * sequence + pair.prefix - 1, i * sequence + pair.tokens.length - 1);
        }
        return { tokens, counted };
      };
    return {
      objective: countedTokens(sequence),
      training: { take: take((i) => training[order(i)]!) },
      validation: { count: validation.length, take: take((i) => validation[i]!) },
      identity: { pairs: digestOf(training), 'held-out pairs': digestOf(validation) },
    };
  };
}

function digestOf(pairs: readonly EncodedPair[]): string {
  const hash = sha256();
  for (const { tokens, prefix } of pairs) hash.update(`${prefix} ${tokens.join()};`);
  return hash.digest('hex');
}
