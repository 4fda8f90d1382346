/**
 * Softmax attention in blocks of queries, each over all entries, so that memory grows linearly with the entries, not quadratically.
 */
import type { AttentionOptions } from '../../ops/attention.js';
import type { StableHloBuilder } from './builder.js';
import { count, type Plain, type Value } from './value.js';

/** The logit of masked entries: its exp() is 0 in float32, and unlike -Infinity it cannot give NaN. */
const HIDDEN = -1e30;

/** Keys and values [batch, keyValueHeads, entries, size], and the masking of the logits for queries from a position on. */
interface MaskedEntries {
  readonly keys: Plain;
  readonly values: Plain;
  readonly masked: (logits: Plain, start: Plain | undefined) => Plain;
}

/** softmax(q k^T * scale + bias) v over past and new entries: [batch, heads, sequence, valueDim]. */
export function attention(
  builder: StableHloBuilder,
  [query, key, value, bias, pastKey, pastValue, lengths]: readonly (Value | undefined)[],
  options: AttentionOptions,
): Plain {
  const given = builder.plain(query!);
  const [batch, heads, sequence, headDim] = given.dims as [number, number, number, number];
  const keys = builder.narrow(key!);
  // Without values, the first dimensions of the keys are the values.
  const values = value ? builder.narrow(value) : keys;
  const keyValueHeads = keys.dims[1]!;
  const group = heads / keyValueHeads;
  const scaled = builder.narrow(
    builder.binary('multiply', given, builder.splat(options.scale, given.element)),
  );
  const grouped = builder.reshape(scaled, [batch, keyValueHeads, group, sequence, headDim]);

  const parts: MaskedEntries[] = [{ keys, values, masked: ownMask(builder, bias, options, group) }];
  if (pastKey) {
    parts.unshift({
      keys: builder.narrow(pastKey),
      values: builder.narrow(pastValue ?? pastKey),
      masked: pastMask(builder, builder.plain(lengths!), options),
    });
  }
  const entries = parts.reduce((sum, part) => sum + part.keys.dims[2]!, 0);
  let blocks = 1;
  while (
    (count([batch, heads, sequence, entries]) * 4) / blocks > builder.logitBytes &&
    sequence % (2 * blocks) === 0
  ) {
    blocks *= 2;
  }
  const dims = [batch, keyValueHeads, group, sequence, values.dims[3]!];
  const output =
    blocks === 1
      ? attend(builder, grouped, parts, undefined)
      : inBlocks(builder, grouped, parts, blocks, dims);
  const mixed = builder.reshape(output, [batch, heads, sequence, values.dims[3]!]);
  return builder.slice(mixed, 3, 0, options.valueSize ?? values.dims[3]!);
}

function inBlocks(
  builder: StableHloBuilder,
  query: Plain,
  parts: readonly MaskedEntries[],
  blocks: number,
  dims: readonly number[],
): Plain {
  const size = dims[3]! / blocks;
  const [output] = builder.loop(blocks, [builder.splat(0, builder.narrowElement, dims)], (index, [done]) => {
    const start = builder.binary('multiply', index, builder.splat(size, 'i32'));
    const mixed = attend(builder, builder.dynamicSlice(query, 3, start, size), parts, start);
    return [builder.dynamicUpdateSlice(done!, mixed, 3, start)];
  });
  return output!;
}

/** Attention of queries [batch, keyValueHeads, group, rows, headDim], with a softmax over all parts without concatenating their logits. */
function attend(
  builder: StableHloBuilder,
  query: Plain,
  parts: readonly MaskedEntries[],
  start: Plain | undefined,
): Plain {
  const pairs = [
    [0, 0],
    [1, 1],
  ] as const;
  const logits = parts.map(({ keys, masked }) =>
    masked(builder.dot(query, keys, { batch: pairs, contract: [[4, 3]] }, 'f32'), start),
  );
  const last = (x: Plain): Plain => builder.reshape(x, [...x.dims, 1]);
  const both = (name: string) => (a: Plain, b: Plain) => builder.binary(name, a, b);
  const top = last(logits.map((part) => builder.reduce('maximum', part, [4])).reduce(both('maximum')));
  const shares = logits.map((part) => builder.unary('exponential', builder.binary('subtract', part, top)));
  const total = last(shares.map((part) => builder.reduce('add', part, [4])).reduce(both('add')));
  const mixed = parts
    .map(({ values }, i) =>
      builder.dot(builder.narrow(shares[i]!), values, { batch: pairs, contract: [[4, 2]] }, 'f32'),
    )
    .reduce(both('add'));
  return builder.narrow(builder.binary('divide', mixed, total));
}

/** The position of each query, [rows, 1], as int32. */
function places(builder: StableHloBuilder, rows: number, start: Plain | undefined): Plain {
  const own = builder.iota([rows, 1], 0, 'i32');
  return start ? builder.binary('add', own, start) : own;
}

function ownMask(
  builder: StableHloBuilder,
  bias: Value | undefined,
  { causal, window }: AttentionOptions,
  group: number,
): MaskedEntries['masked'] {
  return (logits, start) => {
    const [rows, entries] = logits.dims.slice(-2) as [number, number];
    let result = logits;
    if (bias) {
      const wide = builder.wide(bias);
      const lead = [...Array<number>(4 - wide.dims.length).fill(1), ...wide.dims];
      const heads = lead[1]! === 1 ? [1, 1] : [lead[1]! / group, group];
      const all = builder.reshape(wide, [lead[0]!, ...heads, ...lead.slice(2)]);
      const own = start && lead[2] !== 1 ? builder.dynamicSlice(all, 3, start, rows) : all;
      result = builder.binary('add', result, own);
    }
    if (!causal) return result;
    const own = places(builder, rows, start);
    const entry = builder.iota([1, entries], 1, 'i32');
    let isVisible = builder.compare('LE', entry, own);
    if (window !== undefined) {
      const distance = builder.binary('subtract', own, entry);
      isVisible = builder.binary(
        'and',
        isVisible,
        builder.compare('LT', distance, builder.splat(window, 'i32')),
      );
    }
    return hidden(builder, isVisible, result);
  };
}

function pastMask(
  builder: StableHloBuilder,
  lengths: Plain,
  { window }: AttentionOptions,
): MaskedEntries['masked'] {
  const end = builder.reshape(builder.as(lengths, 'i32'), [count(lengths.dims), 1, 1]);
  return (logits, start) => {
    const [rows, room] = logits.dims.slice(-2) as [number, number];
    const entry = builder.iota([1, 1, room], 2, 'i32');
    let isVisible = builder.compare('LT', entry, end);
    if (window !== undefined) {
      const own = builder.reshape(places(builder, rows, start), [1, rows, 1]);
      const distance = builder.binary('subtract', builder.binary('add', end, own), entry);
      isVisible = builder.binary(
        'and',
        isVisible,
        builder.compare('LT', distance, builder.splat(window, 'i32')),
      );
    }
    const [batch, first, second] = isVisible.dims as [number, number, number];
    return hidden(builder, builder.reshape(isVisible, [batch, 1, 1, first, second]), logits);
  };
}

function hidden(builder: StableHloBuilder, isVisible: Plain, logits: Plain): Plain {
  return builder.select(isVisible, logits, builder.splat(HIDDEN, 'f32'));
}
