/**
 * Source texts, for encoders: token embeddings and learned positions. The number of positions is fixed; shorter texts are padded with the
 * end-of-text token, which is masked from attention.
 */
import { z } from 'zod';
import { add, equal, gather, scalar, type Tensor, where } from '../../graph/index.js';
import { embeddingTable, INITIAL_DEVIATION, normal, SOURCE_BIAS } from '../../nn/index.js';
import { type Entering, TOKENS } from './modality.js';

/** The key `input` of an encoder that reads tokens. */
export const textsSchema = z.strictObject({
  kind: z.literal('texts'),
  /** The most tokens of a source. */
  length: z
    .number()
    .int()
    .positive()
    .max(2 ** 16),
});

/** The parsed key. */
export type TextsConfig = z.output<typeof textsSchema>;

/** An attention bias that masks a position: its exp() is 0 in float32. */
const HIDDEN = -1e30;

/** `embeddings` is the path of the embedding table, which source and text share; `padding` is the padding token. */
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
    unit: TOKENS,
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
