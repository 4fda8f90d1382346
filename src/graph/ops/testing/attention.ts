/** Cases for attention, with its definition in float64. */
import type { HostTensor } from '../../../engine/index.js';
import { type NdArray, tabulate, total } from '../../testing/arrays.js';
import type { CaseTable, OperatorCase } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { type AttentionOptions, attention } from '../attention.js';

interface Shape {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly sequence: number;
  readonly entries?: number;
  readonly bias?: readonly number[];
  /** The capacity of the past, and the number of valid entries of each of the 2 rows, or of both. */
  readonly past?: { readonly room: number; readonly lengths: readonly number[]; readonly dims?: number[] };
}

const BATCH = 2;
const HEAD_DIM = 3;
const VALUE_DIM = 2;

function proof(name: string, shape: Shape, options: AttentionOptions): OperatorCase {
  const { heads, keyValueHeads, sequence, entries = sequence, bias, past } = shape;
  const isShared = options.valueSize !== undefined;
  const operands: HostTensor[] = [
    uniform(1, [BATCH, heads, sequence, HEAD_DIM]),
    uniform(2, [BATCH, keyValueHeads, entries, HEAD_DIM]),
  ];
  if (!isShared) operands.push(uniform(3, [BATCH, keyValueHeads, entries, VALUE_DIM]));
  if (bias) operands.push(uniform(4, bias));
  if (past) {
    operands.push(uniform(5, [BATCH, keyValueHeads, past.room, HEAD_DIM]));
    if (!isShared) operands.push(uniform(6, [BATCH, keyValueHeads, past.room, VALUE_DIM]));
    const data = BigInt64Array.from(past.lengths, BigInt);
    operands.push({ dtype: 'int64', dims: past.dims ?? [BATCH], data });
  }
  const room = past?.room ?? 0;
  return {
    name,
    operands,
    build(query, key, ...rest) {
      const value = isShared ? undefined : rest.shift()!;
      const ownBias = bias ? rest.shift() : undefined;
      const [pastKey, pastValue] = isShared ? [rest[0]] : rest;
      const lengths = rest.at(-1);
      const { output, weights } = attention(
        {
          query: query!,
          key: key!,
          value,
          bias: ownBias,
          past: pastKey && { key: pastKey, ...(pastValue && { value: pastValue }), lengths: lengths! },
        },
        options,
      );
      return [output, weights];
    },
    expected(query, key, ...rest) {
      const value = isShared ? key : rest.shift()!;
      const ownBias = bias ? rest.shift() : undefined;
      const pastKey = rest[0];
      const pastValue = isShared ? pastKey : rest[1];
      const heldBy = (b: number): number => past?.lengths[past.lengths.length === 1 ? 0 : b] ?? 0;
      const biasAt = (...index: number[]): number =>
        ownBias ? ownBias.at(...index.slice(4 - ownBias.dims.length)) : 0;
      const isVisible = (b: number, i: number, j: number): boolean => {
        if (j < room)
          return j < heldBy(b) && heldBy(b) + i - j < (options.window ?? Number.POSITIVE_INFINITY);
        const distance = i - (j - room);
        return !options.causal || (distance >= 0 && distance < (options.window ?? Number.POSITIVE_INFINITY));
      };
      const shared = (h: number): number => Math.floor((h * keyValueHeads) / heads);
      const raw = tabulate([BATCH, heads, sequence, room + entries], (b, h, i, j) => {
        if (!isVisible(b, i, j)) return 0;
        const at = (d: number): number =>
          j < room ? pastKey!.at(b, shared(h), j, d) : key!.at(b, shared(h), j - room, d);
        const product = total(HEAD_DIM, (d) => query!.at(b, h, i, d) * at(d));
        return Math.exp(options.scale * product + (j < room ? 0 : biasAt(b, h, i, j - room)));
      });
      const weights = tabulate(
        raw.dims,
        (b, h, i, j) => raw.at(b, h, i, j) / total(room + entries, (k) => raw.at(b, h, i, k)),
      );
      const output = tabulate([BATCH, heads, sequence, VALUE_DIM], (b, h, i, d) =>
        total(room + entries, (j) => {
          const entry = j < room ? pastValue!.at(b, shared(h), j, d) : value!.at(b, shared(h), j - room, d);
          return weights.at(b, h, i, j) * entry;
        }),
      );
      return [output, weights] as readonly NdArray[];
    },
  };
}

const causal = { scale: 0.75, causal: true };

/** Cases of the operators in attention.ts. */
export const attentionCases: CaseTable = {
  attention: [
    proof('a head for each key, causal', { heads: 2, keyValueHeads: 2, sequence: 3 }, causal),
    proof(
      'heads that share keys, in a window',
      { heads: 4, keyValueHeads: 2, sequence: 4 },
      { ...causal, window: 2 },
    ),
    proof(
      'other entries than queries, with a bias for all',
      { heads: 2, keyValueHeads: 1, sequence: 2, entries: 3, bias: [2, 3] },
      { scale: 1, causal: false },
    ),
    proof(
      'a bias for each row, causal',
      { heads: 2, keyValueHeads: 1, sequence: 3, bias: [2, 1, 1, 3] },
      causal,
    ),
    proof(
      'over a past of different lengths',
      { heads: 4, keyValueHeads: 2, sequence: 3, past: { room: 4, lengths: [3, 1] } },
      causal,
    ),
    proof(
      'over a past, in a window',
      { heads: 2, keyValueHeads: 1, sequence: 3, past: { room: 5, lengths: [5, 2] } },
      { ...causal, window: 3 },
    ),
    proof(
      'one token over a past of one length, with a bias',
      { heads: 2, keyValueHeads: 2, sequence: 1, bias: [1], past: { room: 3, lengths: [2], dims: [] } },
      causal,
    ),
    proof(
      'over room that holds nothing yet',
      { heads: 2, keyValueHeads: 1, sequence: 2, past: { room: 2, lengths: [0, 0] } },
      causal,
    ),
    proof(
      'values that are part of the keys',
      { heads: 4, keyValueHeads: 2, sequence: 3 },
      { ...causal, valueSize: VALUE_DIM },
    ),
    proof(
      'values that are part of the keys, over a past',
      { heads: 4, keyValueHeads: 1, sequence: 2, past: { room: 3, lengths: [3, 1] } },
      { ...causal, valueSize: VALUE_DIM },
    ),
  ],
  // If the weights are not used, the gradient is a separate operator.
  attentionGradient: [
    withoutWeights(
      proof('a head for each key, its output alone', { heads: 2, keyValueHeads: 2, sequence: 4 }, causal),
    ),
    withoutWeights(
      proof(
        'heads that share keys, in a window, its output alone',
        { heads: 4, keyValueHeads: 2, sequence: 4 },
        { ...causal, window: 2 },
      ),
    ),
    withoutWeights(
      proof(
        'other entries than queries, its output alone',
        { heads: 4, keyValueHeads: 1, sequence: 2, entries: 3 },
        { scale: 0.5, causal: false },
      ),
    ),
  ],
};

function withoutWeights({ build, expected, ...rest }: OperatorCase): OperatorCase {
  return {
    ...rest,
    build: (...operands) => [[build(...operands)].flat()[0]!],
    expected: (...operands) => [[expected(...operands)].flat()[0]!] as readonly NdArray[],
  };
}
