/** Linear recurrences without a loop: a single step, and scans with scalar decays. */
import type { Heads } from '../../ops/recurrence.js';
import type { StableHloBuilder } from './builder.js';
import { cumulativeSum } from './reduce.js';
import type { Plain, Value } from './value.js';

/** A logit whose exp() is 0. */
const NEVER = -1e30;
/** The least logarithm of a decay: its exp() is 0 in float32. */
const LEAST_LOG = -200;

/** One step of `linearRecurrence`, in float32, which reads and writes the state once. Output and state have the operator's shapes. */
export function recurrenceStep(
  builder: StableHloBuilder,
  operands: readonly (Value | undefined)[],
  heads: Heads,
): [Plain, Plain] {
  const [query, key, value, gate, given, beta, find, remove] = operands.map((x) => x && builder.wide(x));
  const batch = value!.dims[0]!;
  const count = heads.value;
  const keySize = query!.dims[2]! / heads.query;
  const valueSize = value!.dims[2]! / count;
  const multiply = (a: Plain, b: Plain): Plain => builder.binary('multiply', a, b);
  /** [batch, 1, own * keySize] -> [batch, heads, keySize, 1] */
  const columns = (x: Plain, own: number): Plain => {
    const grouped = builder.reshape(x, [batch, own, 1, keySize]);
    const spread = builder.broadcast(grouped, [batch, own, count / own, keySize]);
    return builder.reshape(spread, [batch, count, keySize, 1]);
  };
  const k = columns(key!, heads.key);
  const v = builder.reshape(value!, [batch, count, 1, valueSize]);
  let state = given ?? builder.splat(0, 'f32', [batch, count, keySize, valueSize]);
  if (gate) {
    const rows = gate.dims[2]! / count;
    state = multiply(state, builder.reshape(builder.unary('exponential', gate), [batch, count, rows, 1]));
  }
  const overKeys = (x: Plain, y: Plain): Plain =>
    builder.reshape(builder.reduce('add', multiply(x, y), [2]), [batch, count, 1, valueSize]);
  let written = v;
  if (beta) {
    const rate = builder.reshape(beta, [batch, count, 1, 1]);
    written = multiply(builder.binary('subtract', v, overKeys(k, state)), rate);
  }
  let next = builder.binary('add', state, multiply(k, written));
  if (find && remove) {
    const found = overKeys(columns(find, heads.key), state);
    next = builder.binary('subtract', next, multiply(columns(remove, heads.key), found));
  }
  const output = overKeys(columns(query!, heads.query), next);
  return [builder.reshape(output, [batch, 1, count * valueSize]), next];
}

/**
 * The scan S' = a_n S + B_n with scalars a_n > 0 for the last two axes: the states before each step, along the same axis as B, and the last
 * state. Every state is a sum of earlier B_n weighted by the decay since then, which is a matrix product instead of a loop.
 */
export function decayScan(
  builder: StableHloBuilder,
  { transition, added, initial }: { transition: Plain; added: Plain; initial: Plain },
  along: number,
  reverse: boolean,
): [states: Plain, last: Plain] {
  const steps = added.dims[along]!;
  const state = added.dims.filter((_, i) => i !== along);
  const lead = state.slice(0, -2);
  /** The permutation that moves the steps to the last axis, and its inverse. */
  const stepsLast = [...lead.map((_, i) => (i < along ? i : i + 1)), along];
  const stepsAlong = [
    ...lead.map((_, i) => i).slice(0, along),
    lead.length,
    ...lead.map((_, i) => i).slice(along),
  ];
  const logs = builder.binary(
    'maximum',
    builder.unary('log', builder.wide(transition)),
    builder.splat(LEAST_LOG, 'f32'),
  );
  const each = builder.broadcast(
    builder.reshape(logs, transition.dims.slice(0, -2)),
    added.dims.slice(0, -2),
  );
  // There are steps + 1 points between steps; the log decay between two of them is the difference of these cumulative sums.
  const points = builder.transpose(
    cumulativeSum(builder, builder.pad(each, along, 1, 0), along, false),
    stepsLast,
  );
  const startsAtZero = initial.literal === 0;
  // B_j belongs to the point after step j, and the initial state to the point where the scan begins.
  const start = reverse ? steps : 0;
  const firstAdded = reverse ? 0 : 1;
  const axis = lead.length;
  const since = (row: Plain, column: Plain): Plain => {
    const difference = builder.binary('subtract', row, column);
    return reverse ? builder.unary('negate', difference) : difference;
  };

  const narrow = (x: Plain): Plain => builder.as(x, added.element);
  const first = builder.reshape(
    builder.broadcast(builder.wide(initial), state),
    added.dims.map((size, i) => (i === along ? 1 : size)),
  );
  const parts = startsAtZero ? [added] : reverse ? [added, narrow(first)] : [narrow(first), added];
  const sources = builder.concat(parts, along);
  const sourceCount = sources.dims[along]!;
  const firstSource = startsAtZero ? firstAdded : 0;
  const firstRow = reverse ? 1 : 0;
  const row = builder.slice(points, axis, firstRow, firstRow + steps);
  const column = builder.slice(points, axis, firstSource, firstSource + sourceCount);
  const place = (shape: readonly number[], of: number, from: number): Plain =>
    builder.binary('add', builder.iota(shape, of, 'i32'), builder.splat(from, 'i32'));
  const isBefore = builder.compare(
    reverse ? 'GE' : 'LE',
    place([1, sourceCount], 1, firstSource),
    place([steps, 1], 0, firstRow),
  );
  const between = since(
    builder.reshape(row, [...lead, steps, 1]),
    builder.reshape(column, [...lead, 1, sourceCount]),
  );
  const weights = builder.unary(
    'exponential',
    builder.select(isBefore, between, builder.splat(NEVER, 'f32')),
  );
  const product = builder.dot(
    narrow(weights),
    sources,
    { batch: lead.map((_, i) => [i, stepsLast[i]!] as const), contract: [[axis + 1, along]] },
    added.element,
    builder.precision === 'float32',
  );
  const states = builder.transpose(product, [...stepsAlong, axis + 1, axis + 2]);

  // The last state is carried on, so it is summed in float32, in the original layout of steps.
  const end = builder.slice(points, axis, steps - start, steps - start + 1);
  /** The decay from points [...lead, n] to the end, with n along `along`, and two trailing axes of size 1. */
  const toEnd = (from: Plain): Plain => {
    const decay = builder.unary('exponential', since(end, from));
    const placed = builder.transpose(decay, stepsAlong);
    return builder.reshape(placed, [...placed.dims, 1, 1]);
  };
  const behind = toEnd(builder.slice(points, axis, firstAdded, firstAdded + steps));
  const sum = builder.reduce('add', builder.binary('multiply', builder.wide(added), behind), [along]);
  if (startsAtZero) return [states, sum];
  const kept = builder.binary('multiply', first, toEnd(builder.slice(points, axis, start, start + 1)));
  return [states, builder.binary('add', builder.reshape(kept, state), sum)];
}
