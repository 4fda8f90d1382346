/**
 * A text that is whole before another is written: tokens, and a learned vector for each place. It has a fixed number of places; behind a
 * shorter text the end-of-text token stands, and is hidden from attention.
 */
import { z } from 'zod';
import { add, equal, gather, scalar, type Tensor, where } from '../../graph/index.js';
import { embeddingTable, INITIAL_DEVIATION, normal, SOURCE_BIAS } from '../../nn/index.js';
import type { Entering } from './modality.js';

/** The key `input` of an encoder that reads tokens. */
export const textsSchema = z.strictObject({
  kind: z.literal('texts'),
  /** Tokens that a source has at most. */
  length: z
    .number()
    .int()
    .positive()
    .max(2 ** 16),
});

/** What that key says. */
export type TextsConfig = z.output<typeof textsSchema>;

/** Hides a place: exp() of it is 0 in float32. */
const HIDDEN = -1e30;

/** `embeddings` is where the table of the text that is written stands, which serves both; `padding` is the token behind the end. */
export function texts(
  { length }: TextsConfig,
  {
    hiddenSize,
    vocabSize,
    embeddings,
    padding,
  }: { hiddenSize: number; vocabSize: number; embeddings: string; padding: number },
): Entering {
  return {
    kind: 'texts',
    about: `reads texts of up to ${length} tokens`,
    inputs: [{ name: 'source', dtype: 'int64', shape: [length] }],
    enter(parameters, { source }) {
      const rows = gather(
        parameters.at(embeddings, (p) => embeddingTable(p, vocabSize, hiddenSize)),
        source!,
      );
      const places = parameters.within(
        'input',
        (p): Tensor => p.get('positions', [length, hiddenSize], normal(INITIAL_DEVIATION)),
      );
      return { stream: add(rows, places), state: {}, kept: { [SOURCE_BIAS]: hiding(source!, padding) } };
    },
  };
}

function hiding(source: Tensor, padding: number): Tensor {
  return where(equal(source, scalar(padding, 'int64')), HIDDEN, 0);
}
