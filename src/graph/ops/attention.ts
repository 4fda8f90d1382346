/** Softmax attention of new tokens over themselves and over a KV cache. */
import { ShapeError } from '../../errors.js';
import { attentionInBlocks, logitsOf, type MemoryPart } from '../lower/onnx/attention.js';
import { attention as attentionInHlo } from '../lower/stablehlo/attention.js';
import { fusedAttention, fusedAttentionGradient } from '../lower/stablehlo/fused-attention.js';
import { attentionInWasm } from '../lower/wasm/attention.js';
import { maskedAttentionInWasm } from '../lower/wasm/masked-attention.js';
import {
  addDims,
  broadcastShapes,
  type Dim,
  divideDim,
  formatShape,
  type Shape,
  sameShape,
} from '../shape.js';
import { apply, defineComposite, expansionIsUsed, type Node, type Operands, type Tensor } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { iota, zeros } from './constant.js';
import { add, and, equal, less, lessOrEqual, multiply, subtract, where } from './elementwise.js';
import { gather } from './indexing.js';
import { concat, slice, transpose } from './layout.js';
import { loop } from './loop.js';
import { matmul } from './matmul.js';
import { softmax } from './normalize.js';

/** The bias of masked entries: its exp() is 0 in float32, and unlike -Infinity it cannot give NaN. */
const HIDDEN = -1e30;

/** The options of `attention`. */
export interface AttentionOptions {
  /** Multiplies the products of queries and keys. */
  readonly scale: number;
  /** Masks the keys of later tokens. Query i then belongs to key i. */
  readonly causal: boolean;
  /** With `causal`, the sliding window: the most keys that a token sees, including its own. */
  readonly window?: number | undefined;
  /**
   * Without a value operand: values are the first `valueSize` dimensions of the keys, as in multi-head latent attention, where all heads share a
   * latent.
   */
  readonly valueSize?: number | undefined;
}

/** The index of the operand `documents`; kernels do not support it, so the expansion is used. */
const DOCUMENTS = 7;

const attentionOperator = defineComposite<AttentionOptions>({
  name: 'attention',
  infer([query, key, value, bias, pastKey, pastValue, lengths, documents], options) {
    const { causal, window, valueSize } = options;
    const [batch, heads, sequence, headDim] = query!.shape;
    if (query!.shape.length !== 4 || key!.shape.length !== 4) {
      throw new ShapeError('expected a query [batch, heads, sequence, headDim] and keys of the same rank');
    }
    const [, keyValueHeads, entries] = key!.shape;
    const expectShape = (what: string, shape: Shape | undefined, wanted: Shape): void => {
      if (!shape || !sameShape(shape, wanted))
        throw new ShapeError(`the ${what} must be ${formatShape(wanted)}`);
    };
    expectShape('key', key!.shape, [batch!, keyValueHeads!, causal ? sequence! : entries!, headDim!]);
    if (valueSize === undefined) {
      expectShape('value', value?.shape, [...key!.shape.slice(0, 3), value?.shape.at(-1) ?? headDim!]);
    } else if (value || pastValue || !isSizeWithin(valueSize, headDim!)) {
      throw new ShapeError(
        'values are given, or are the first numbers of the keys, of which there are enough',
      );
    }
    const width = valueSize ?? value!.shape[3]!;
    if (typeof divideDim(heads!, keyValueHeads!) !== 'number') {
      throw new ShapeError(`${heads} heads cannot share ${keyValueHeads} keys evenly`);
    }
    if (window !== undefined && !(causal && Number.isInteger(window) && window >= 1)) {
      throw new ShapeError('a window is a whole number, 1 or more, of causal attention');
    }
    if (pastKey) {
      const room = pastKey.shape[2]!;
      expectShape('past key', pastKey.shape, [batch!, keyValueHeads!, room, headDim!]);
      if (value) expectShape('past value', pastValue?.shape, [batch!, keyValueHeads!, room, width]);
      if (lengths?.dtype !== 'int64' || lengths.shape.length > 1) {
        throw new ShapeError('the lengths of what is past must be int64, [batch] or []');
      }
    }
    if (documents) {
      if (!causal) throw new ShapeError('documents are of causal attention');
      expectShape('documents', documents.shape, [batch!, sequence!]);
    }
    const own: Shape = [batch!, heads!, sequence!, entries!];
    if (bias && !sameShape(broadcastShapes(bias.shape, own) ?? [], own)) {
      throw new ShapeError(`the bias does not broadcast to ${formatShape(own)}`);
    }
    const all = pastKey ? addDims(pastKey.shape[2]!, entries!) : entries!;
    return [
      { dtype: 'float32', shape: [batch!, heads!, sequence!, width] },
      { dtype: 'float32', shape: [batch!, heads!, sequence!, all] },
    ];
  },
  expand(inputs, options) {
    const query = inputs[0]!;
    const parts = partsOf(inputs, options);
    const logits = parts.map((part) => logitsOf(multiply(query, options.scale), part));
    const weights = softmax(concat(logits, -1));
    const [batch, heads, sequence] = query.shape as [Dim, number, Dim, number];
    const keyValueHeads = parts[0]!.keys.shape[1]!;
    let start: Dim = 0;
    const mixed = parts.map(({ values }) => {
      const end = addDims(start, values.shape[2]!);
      const shares = slice(weights, -1, start, end);
      start = end;
      return matmul(reshape(shares, [batch, keyValueHeads, -1, values.shape[2]!]), values);
    });
    const output = mixed.reduce((sum, part) => add(sum, part));
    return [withValueSize(reshape(output, [batch, heads, sequence, output.shape[3]!]), options), weights];
  },
  gradient({ inputs, outputGradients: [g, ofWeights], attributes }) {
    const [query, key, value, bias, pastKey] = inputs;
    if (ofWeights || bias || pastKey || !value || inputs[DOCUMENTS] || attributes.valueSize !== undefined)
      return undefined;
    return [...apply(attentionGradientOperator, [query, key, value, g], attributes)];
  },
  kernels: {
    onnx(builder, _, node) {
      const { inputs, outputs, attributes } = node;
      // The weights need too much memory only over a long past.
      const isLong = inputs[4] !== undefined && inputs[0]!.shape[2] !== 1;
      if (!isLong || !builder.fused.has('AttentionInBlocks') || builder.used.has(outputs[1]!))
        return undefined;
      if (expansionIsUsed(node as Node, builder.used)) return undefined;
      const output = attentionInBlocks(multiply(inputs[0]!, attributes.scale), partsOf(inputs, attributes));
      return [...builder.inline([withValueSize(output, attributes)], inputs), ''];
    },
    wasm(builder, operands, { outputs, attributes }) {
      if (builder.used.has(outputs[1]!) || operands[DOCUMENTS]) return undefined;
      const [query, key, value, bias, past] = operands;
      if (!bias || attributes.causal || past || !value) return attentionInWasm(builder, operands, attributes);
      return maskedAttentionInWasm(builder, [query!, key!, value, bias], attributes.scale);
    },
    stablehlo(builder, operands, node) {
      if (
        operands[DOCUMENTS] ||
        builder.used.has(node.outputs[1]!) ||
        expansionIsUsed(node as Node, builder.used)
      )
        return undefined;
      const fused = fusedAttention(builder, operands, node.attributes);
      return [fused ?? attentionInHlo(builder, operands, node.attributes)];
    },
  },
});

/** Queries of a block: longer sequences are computed in blocks, so that memory is not quadratic in the sequence. */
const QUERIES_AT_ONCE = 2048;

/** dL/dq, dL/dk and dL/dv from q, k, v and dL/d(output), without past and bias. */
const attentionGradientOperator = defineComposite<AttentionOptions>({
  name: 'attentionGradient',
  infer: ([query, key, value]) => [query!, key!, value!].map(({ shape }) => ({ dtype: 'float32', shape })),
  kernels: {
    stablehlo: (builder, operands, { attributes }) => fusedAttentionGradient(builder, operands, attributes),
  },
  expand: ([query, key, value, g], options) =>
    gradientInBlocks([query!, key!, value!, g!], options, QUERIES_AT_ONCE),
});

/** The results of `attentionGradient`, summed over blocks of at most this many queries; the sequence must divide into equal blocks. */
export function gradientInBlocks(
  [query, key, value, g]: readonly [Tensor, Tensor, Tensor, Tensor],
  options: AttentionOptions,
  most: number,
): [Tensor, Tensor, Tensor] {
  const [batch, heads, sequence, headDim] = query.shape as [Dim, number, Dim, Dim];
  if (typeof sequence !== 'number') return blockGradient(query, key, value, g, 0, options);
  let blocks = 1;
  while (sequence / blocks > most && sequence % (2 * blocks) === 0) blocks *= 2;
  if (blocks === 1) return blockGradient(query, key, value, g, 0, options);
  const rows = sequence / blocks;
  const inBlocks = (x: Tensor, size: Dim): Tensor =>
    transpose(reshape(x, [batch, heads, blocks, rows, size]), [2, 0, 1, 3, 4]);
  const [queries, gradients] = [inBlocks(query, headDim), inBlocks(g, value.shape[3]!)];
  const { carried, stacked } = loop(blocks, [zeros(key.shape), zeros(value.shape)], (index, sums) => {
    const [own, ofOwn] = [gather(queries, index), gather(gradients, index)];
    const [dq, dk, dv] = blockGradient(own, key, value, ofOwn, multiply(index, rows), options);
    return { carried: [add(sums[0]!, dk), add(sums[1]!, dv)], stacked: [dq] };
  });
  const inOrder = reshape(transpose(stacked[0]!, [1, 2, 0, 3, 4]), query.shape);
  return [inOrder, carried[0]!, carried[1]!];
}

/** The contribution of the queries from `start` on. The attention weights are recomputed. */
function blockGradient(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  g: Tensor,
  start: Tensor | number,
  { scale, causal, window }: AttentionOptions,
): [Tensor, Tensor, Tensor] {
  const [batch, heads, rows] = query.shape as [Dim, number, Dim, Dim];
  const [, keyValueHeads, entries] = key.shape as [Dim, number, Dim, Dim];
  const place = reshape(add(iota(rows), start), [-1, 1]);
  const index = iota(entries);
  const isEarlier = lessOrEqual(index, place);
  const isVisible = window === undefined ? isEarlier : and(isEarlier, less(subtract(place, index), window));
  const scaled = multiply(query, scale);
  const bias = causal ? hide(isVisible) : undefined;
  const weights = softmax(logitsOf(scaled, { keys: key, values: value, bias }));
  /** Stacks heads that share keys and values as rows of one matrix. */
  const grouped = (x: Tensor): Tensor => reshape(x, [batch, keyValueHeads, -1, x.shape[3]!]);
  const dv = matmul(grouped(weights), grouped(g), { transposeA: true });
  const ofWeights = reshape(matmul(grouped(g), value, { transposeB: true }), [batch, heads, rows, entries]);
  const weighed = multiply(ofWeights, weights);
  const ofLogits = subtract(weighed, multiply(weights, sum(weighed, -1, { keepDims: true })));
  const dq = multiply(reshape(matmul(grouped(ofLogits), key), query.shape), scale);
  return [dq, matmul(grouped(ofLogits), grouped(scaled), { transposeA: true }), dv];
}

function isSizeWithin(size: number, all: Dim): boolean {
  return Number.isInteger(size) && size >= 1 && typeof all === 'number' && size <= all;
}

/** The first `valueSize` dimensions of weighted sums of keys, which are those of the values. */
function withValueSize(mixed: Tensor, { valueSize }: AttentionOptions): Tensor {
  return valueSize === undefined ? mixed : slice(mixed, -1, 0, valueSize);
}

/** The past, if there is one, and the new entries: keys, values, and the bias of their logits. */
function partsOf(
  [query, key, value, bias, pastKey, pastValue, lengths, documents]: Operands,
  { causal, window }: AttentionOptions,
): MemoryPart[] {
  const sequence = query!.shape[2]!;
  const index = iota(sequence);
  const own = reshape(index, [-1, 1]);
  const isEarlier = lessOrEqual(index, own);
  const isInWindow = window === undefined ? isEarlier : and(isEarlier, less(subtract(own, index), window));
  const column = documents && reshape(documents, [documents.shape[0]!, 1, sequence, 1]);
  const isOwnNear = column
    ? and(isInWindow, equal(column, reshape(documents, [documents.shape[0]!, 1, 1, sequence])))
    : isInWindow;
  const hidden = causal ? hide(isOwnNear) : undefined;
  // Weighted sums of whole keys cost less than copying the part of the keys that is values.
  const part = {
    keys: key!,
    values: value ?? key!,
    bias: hidden && bias ? add(hidden, bias) : (hidden ?? bias),
  };
  if (!pastKey) return [part];
  const place = iota(pastKey.shape[2]!);
  const end = reshape(lengths!, [-1, 1, 1, 1]);
  const isHeld = less(place, end);
  const isNear = window === undefined ? undefined : less(subtract(add(end, own), place), window);
  const held = {
    keys: pastKey,
    values: pastValue ?? pastKey,
    bias: hide(
      [isHeld, isNear, column && equal(column, 0)].flatMap((x) => x ?? []).reduce((a, b) => and(a, b)),
    ),
  };
  return [held, part];
}

function hide(isVisible: Tensor): Tensor {
  return where(isVisible, 0, HIDDEN);
}

/** The operands of `attention`. */
export interface AttentionInputs {
  /** [batch, heads, sequence, headDim] */
  readonly query: Tensor;
  /** [batch, keyValueHeads, entries, headDim]: with fewer heads than queries, consecutive query heads share them. */
  readonly key: Tensor;
  /** [batch, keyValueHeads, entries, valueDim]; if absent, see the option `valueSize`. */
  readonly value?: Tensor | undefined;
  /** Added to the logits of `key`: broadcasts to [batch, heads, sequence, entries]. */
  readonly bias?: Tensor | undefined;
  /**
   * The KV cache: keys and values of earlier tokens, [batch, keyValueHeads, room, size], of which the first `lengths` entries (int64 [batch] or
   * []) of each row are valid.
   */
  readonly past?: { readonly key: Tensor; readonly value?: Tensor; readonly lengths: Tensor } | undefined;
  /** For causal attention, int64 [batch, sequence] (see documents.ts): tokens see only those of their own document. */
  readonly documents?: Tensor | undefined;
}

/**
 * softmax(q k^T * scale + bias) v over past and new entries: `output` [batch, heads, sequence, valueDim] and `weights` [batch, heads, sequence,
 * room + entries]. With a window, a query sees an entry of the past only if it is less than `window` tokens earlier. Throws `ShapeError` for
 * shapes that do not fit.
 */
export function attention(
  { query, key, value, bias, past, documents }: AttentionInputs,
  options: AttentionOptions,
): { output: Tensor; weights: Tensor } {
  const operands = [query, key, value, bias, past?.key, past?.value, past?.lengths, documents];
  const [output, weights] = apply(attentionOperator, operands, options);
  return { output: output!, weights: weights! };
}
