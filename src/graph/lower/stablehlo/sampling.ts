/** Samples the next token of each row from its logits, as generate/sampler.ts does, in float32. */
import type { StableHloBuilder } from './builder.js';
import { gatherElements, sort } from './indexing.js';
import { cumulativeSum } from './reduce.js';
import type { Plain } from './value.js';

/** The most candidates of top-k, top-p and min-p. */
const CANDIDATES = 1024;
/** The order of each row's settings: as in `SamplingOptions`; a top-k of 1 is greedy. */
export const SAMPLING_SETTINGS = ['temperature', 'topK', 'topP', 'minP'] as const;

/**
 * The tokens i32 [rows] that uniform random numbers f32 [rows] draw from logits f32 [rows, vocabulary] under settings f32
 * [rows, 4], and their logits f32 [rows].
 */
export function drawn(
  builder: StableHloBuilder,
  logits: Plain,
  uniform: Plain,
  settings: Plain,
): { token: Plain; logit: Plain } {
  const [rows, vocabulary] = logits.dims as [number, number];
  const count = Math.min(CANDIDATES, vocabulary);
  const [scores, ids] = likeliest(builder, logits, count);
  const binary = (name: string, a: Plain, b: Plain): Plain => builder.binary(name, a, b);
  const setting = (name: (typeof SAMPLING_SETTINGS)[number]): Plain => {
    const column = SAMPLING_SETTINGS.indexOf(name);
    return builder.slice(settings, 1, column, column + 1);
  };
  const last = (x: Plain): Plain => builder.reshape(x, [rows, 1]);
  const total = (x: Plain): Plain => last(builder.reduce('add', x, [1]));

  const relative = binary(
    'divide',
    binary('subtract', scores, builder.slice(scores, 1, 0, 1)),
    setting('temperature'),
  );
  const shares = builder.unary('exponential', relative);
  const before = binary('subtract', cumulativeSum(builder, shares, 1, false), shares);
  const place = builder.iota([rows, count], 1, 'f32');
  const isWithin = builder.compare('LT', place, setting('topK'));
  // top-p applies to the probabilities that top-k has left, as in the sampler.
  const within = builder.select(isWithin, shares, builder.splat(0, 'f32'));
  // Probabilities are descending and their sums ascending, so the kept tokens come first.
  const isEnough = [
    builder.compare('LT', before, binary('multiply', setting('topP'), total(within))),
    builder.compare('GE', shares, setting('minP')),
  ];
  const isFirst = builder.compare('EQ', place, builder.splat(0, 'f32'));
  const isKept = binary(
    'or',
    isFirst,
    [...isEnough, isWithin].reduce((a, b) => binary('and', a, b)),
  );
  const kept = builder.select(isKept, shares, builder.splat(0, 'f32'));
  const wanted = binary('multiply', last(uniform), total(kept));
  const isBelow = binary(
    'and',
    builder.compare('LE', cumulativeSum(builder, kept, 1, false), wanted),
    isKept,
  );
  const passed = total(builder.as(isBelow, 'f32'));
  const most = binary('subtract', total(builder.as(isKept, 'f32')), builder.splat(1, 'f32'));
  const isChosen = builder.compare('EQ', place, binary('minimum', passed, most));
  const at = (x: Plain): Plain =>
    builder.reduce('add', builder.select(isChosen, x, builder.splat(0, x.element)), [1]);
  return { token: at(ids), logit: at(scores) };
}

/** Tokens of a group, which is first represented by its largest logit. */
const GROUP = 8;

/**
 * The `count` highest logits [rows, vocabulary] and their tokens, lower token first among equals. Since sorting dominates the cost, groups are
 * sorted by their largest logit, then only the tokens of the first `count` groups: no other token can be among the highest.
 */
function likeliest(builder: StableHloBuilder, logits: Plain, count: number): [Plain, Plain] {
  const [rows, vocabulary] = logits.dims as [number, number];
  const groups = vocabulary / GROUP;
  const all = builder.iota(logits.dims, 1, 'i32');
  if (!Number.isInteger(groups) || groups < 4 * count) return highest(builder, logits, all, count);
  const grouped = builder.reshape(logits, [rows, groups, GROUP]);
  const [, chosen] = highest(
    builder,
    builder.reduce('maximum', grouped, [2]),
    builder.iota([rows, groups], 1, 'i32'),
    count,
  );
  const starts = builder.binary(
    'multiply',
    builder.reshape(chosen, [rows, count, 1]),
    builder.splat(GROUP, 'i32'),
  );
  const tokens = builder.reshape(
    builder.binary('add', starts, builder.iota([rows, count, GROUP], 2, 'i32')),
    [rows, count * GROUP],
  );
  return highest(builder, gatherElements(builder, logits, tokens, 1), tokens, count);
}

/** The `count` highest of x [rows, n] and the corresponding numbers i32 [rows, n]; lower number first among equals. */
function highest(builder: StableHloBuilder, x: Plain, numbers: Plain, count: number): [Plain, Plain] {
  const [sorted, with_] = sort(builder, [x, numbers], 1, ([a, b, m, n]) => {
    const isLower = builder.compare('LT', m!, n!);
    const tied = builder.binary('and', builder.compare('EQ', a!, b!), isLower);
    return builder.binary('or', builder.compare('GT', a!, b!), tied);
  }) as [Plain, Plain];
  return [builder.slice(sorted, 1, 0, count), builder.slice(with_, 1, 0, count)];
}
