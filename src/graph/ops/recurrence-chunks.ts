/**
 * The linear recurrence in chunks, as matrix products (Yang et al., 2024, arXiv 2312.06635 and 2406.06484; Dao & Gu, 2024,
 * arXiv 2405.21060). In a chunk that begins with the state S, let c_i be the sum of the gates up to step i, and u_i what step i
 * writes: v_i, or under the delta rule beta_i (v_i - D_i^T k_i). With products that decay over the steps between,
 *
 *     (x . y)_ij = sum over d of x_id y_jd exp(c_id - c_jd)    for j <= i, else 0,
 *
 * all steps of a chunk are
 *
 *     o = (q exp(c)) S + (q . k) u        S' = diag(exp(c_last)) S + (k exp(c_last - c))^T u
 *
 * and the delta rule, whose writes depend on each other, is solved for them: with A the part of beta (k . k) below the diagonal,
 *
 *     u = (I + A)^-1 (beta v - beta (k exp(c)) S)
 *
 * so that S' is a matrix times S, plus a term. A scan carries S from chunk to chunk. With a key f of its own to read the erased value, f stands
 * for beta k, and v for beta v. With another one, r, to remove it, the erased value is w = (I + A)^-1 ((f . k) v + (f exp(c)) S) with A the part
 * of (f . r) below the diagonal, and each step adds v under k and subtracts w under r.
 *
 * Every exponent is a difference that is at most 0, so decays may underflow and nothing overflows. With a gate per head, the decay
 * multiplies whole products of rows; with a gate per key, products are computed as in decayed-products.ts.
 */
import { addDims, type Dim, divideDim, divideDimUp, multiplyDims } from '../shape.js';
import type { Operands, Tensor } from '../tensor.js';
import { broadcastTo, reshape } from './broadcast.js';
import { fill, iota, zeros } from './constant.js';
import { decayedProducts } from './decayed-products.js';
import { lastDocument, sameDocument } from './documents.js';
import { add, cast, exp, lessOrEqual, multiply, narrow, negate, subtract, where } from './elementwise.js';
import { concat, slice, transpose } from './layout.js';
import { matmul } from './matmul.js';
import { cumulativeSum } from './reduce.js';
import { scan } from './scan.js';
import { identity, unitTriangularInverse } from './triangular.js';

/** Steps of a chunk, a power of two; fewer if the sequence is known to be shorter, and for gates or erase keys that make the products of steps more expensive. */
const CHUNK = { perHead: 64, perKey: 32, ofErase: 16 };

/** A logarithm of a decay of which exp() is 0. */
const NEVER = -1e30;

/**
 * Output and final state of `linearRecurrence`, from the same operands. Internally, operands are [rows, members, steps, size]: a row is
 * a chunk of a group of heads that share queries and keys, which have 1 member. Rows are ordered as [batch, chunks, groups]: the
 * batch is the major part, so that with several devices each can compute the rows of its own sequences.
 */
export function recurrenceInChunks(
  [query, key, value, gate, state, beta, find, remove, documents]: Operands,
  heads: { readonly query: number; readonly key: number; readonly value: number },
): [Tensor, Tensor] {
  const [batch, sequence] = value!.shape as [Dim, Dim, Dim];
  const groups = leastCommonMultiple(heads.query, heads.key);
  const members = heads.value / groups;
  const keySize = divideDim(query!.shape[2]!, heads.query)!;
  const isPerKey = gate !== undefined && gate.shape[2] !== heads.value;
  /** The key that removes what is erased, where it is not the one that is written to. */
  const apart = remove === key ? undefined : remove;
  const most = isPerKey ? (apart ? CHUNK.ofErase : CHUNK.perKey) : CHUNK.perHead;
  const steps =
    typeof sequence === 'number' ? Math.min(most, 2 ** Math.ceil(Math.log2(Math.max(sequence, 1)))) : most;
  const chunks = divideDimUp(sequence, steps);
  const rows = multiplyDims([batch, chunks, groups]);

  /** [batch, sequence, count * size] -> [rows, count / groups, steps, size], padded with steps of zeros, which have no effect. */
  const inChunks = (x: Tensor, count: number): Tensor => {
    const rest = addDims(multiplyDims([chunks, steps]), multiplyDims([sequence, -1]));
    const whole = rest === 0 ? x : concat([x, zeros([batch, rest, x.shape[2]!])], 1);
    const size = divideDim(x.shape[2]!, count)!;
    const each = [batch, chunks, steps, groups, count / groups, size];
    return reshape(transpose(reshape(whole, each), [0, 1, 3, 4, 2, 5]), [rows, count / groups, steps, size]);
  };
  const shared = (x: Tensor, count: number): Tensor => inChunks(spread(x, count, groups), groups);
  const q = shared(query!, heads.query);
  const k = shared(key!, heads.key);
  const v = inChunks(value!, heads.value);
  // Document borders are applied to the decay, so a recurrence without a gate gets gates of zero.
  const gates = gate ?? (documents && zeros([batch, sequence, heads.value]));
  const borders = documents && bordersOf(documents, steps, chunks, groups);
  const decay = gates && new Decay(inChunks(gates, heads.value), borders);

  const rate = beta && inChunks(beta, heads.value);
  const [f, r] = [find, apart].map((x) => x && shared(x, heads.key));
  /** The keys with which a step reads the state. */
  const asked = rate ? multiply(k, rate) : f;
  const [seen, found] = productsOf(asked ? [q, asked] : [q], r ? [k, r] : [k], decay) as [Tensor[], Tensor[]];
  const perStep = asked && (decay ? multiply(asked, decay.sinceStart()) : asked);

  const writes: Writes[] =
    asked && !r
      ? [{ key: k, ...solveDelta(found[0]!, rate ? multiply(v, rate) : v, perStep!) }]
      : [{ key: k, own: v }];
  if (r) writes.push({ key: r, ...solveErase(found[0]!, found[1]!, v, perStep!) });
  const added = writes.map(({ key, own }) => untilEnd(key, own, decay)).reduce((a, b) => add(a, b));
  const states = [rows, members, keySize, added.shape[3]!];
  const first = state ?? zeros([batch, heads.value, keySize, states[3]!]);
  const byChunk = (x: Tensor): Tensor => reshape(x, [batch, chunks, groups, ...x.shape.slice(1)]);
  const transition = transitionOf(k, writes, decay);
  const isMatrix = writes.some(({ perState }) => perState);
  const carried = scan(
    byChunk(isMatrix ? broadcastTo(transition, [rows, members, keySize, keySize]) : transition),
    byChunk(added),
    reshape(first, [batch, groups, ...states.slice(1)]),
    {
      product: isMatrix ? 'matrix' : 'elements',
      reverse: false,
      axis: 1,
      ...(!documents && { decays: true }),
    },
  );
  const before = reshape(carried.states, states);

  const output = writes.reduce(
    (sum, { own, perState }, i) => {
      const u = perState ? subtract(own, matmul(perState, before)) : own;
      return add(sum, matmul(seen[i]!, u));
    },
    decay ? decay.fromStart(q, before) : matmul(q, before),
  );
  const inTime = transpose(
    reshape(output, [batch, chunks, groups, members, steps, states[3]!]),
    [0, 1, 4, 2, 3, 5],
  );
  const joined = reshape(inTime, [batch, multiplyDims([chunks, steps]), value!.shape[2]!]);
  return [slice(joined, 1, 0, sequence), reshape(carried.last, first.shape)];
}

/** What the steps of a chunk write under `key`: `own` - `perState` S, where S is the state before the chunk. */
interface Writes {
  readonly key: Tensor;
  readonly own: Tensor;
  readonly perState?: Tensor;
}

type Solved = Required<Omit<Writes, 'key'>>;

/** The writes of the delta rule: u = own - perState S, of beta (k . k) or f . k, beta v or v, and beta (k exp(c)) or f exp(c). */
function solveDelta(found: Tensor, values: Tensor, perStep: Tensor): Solved {
  const inverse = unitTriangularInverse(found);
  return { own: matmul(inverse, values), perState: matmul(inverse, perStep) };
}

/** The erased values: -w = own - perState S, of f . k, f . r, v and f exp(c). */
function solveErase(found: Tensor, removed: Tensor, v: Tensor, perStep: Tensor): Solved {
  const inverse = unitTriangularInverse(removed);
  const earlier = multiply(found, subtract(1, identity(found.shape.at(-1)!)));
  return {
    own: negate(matmul(inverse, matmul(earlier, v))),
    perState: matmul(inverse, perStep),
  };
}

/** x . y for each x and each y. */
function productsOf(xs: readonly Tensor[], ys: readonly Tensor[], decay: Decay | undefined): Tensor[][] {
  if (decay) return decay.products(xs, ys);
  return xs.map((x) =>
    ys.map((y) => multiply(matmul(x, y, { transposeB: true }), causal(x.shape[2] as number))),
  );
}

/** (k exp(c_last - c))^T x */
function untilEnd(k: Tensor, x: Tensor, decay: Decay | undefined): Tensor {
  return decay ? decay.untilEnd(k, x) : matmul(k, x, { transposeA: true });
}

/** The transition of a chunk for the state before it: a factor per row, or a matrix [rows, members, keySize, keySize]. */
function transitionOf(k: Tensor, writes: readonly Writes[], decay: Decay | undefined): Tensor {
  const kept = decay ? decay.whole() : fill([k.shape[0]!, 1, 1, 1], 1);
  return writes.reduce(
    (transition, { key, perState }) =>
      perState
        ? subtract(
            transition === kept ? multiply(identity(k.shape[3]!), kept) : transition,
            untilEnd(key, perState, decay),
          )
        : transition,
    kept,
  );
}

/** Masks of 1 and 0, [rows, 1, ...], for chunks in which documents begin. */
interface Borders {
  /** Whether a step is of the same document as another: [rows, 1, steps, steps]. */
  readonly between: Tensor;
  /** Whether a step is of the same document as the state before the chunk, and as the last step: [rows, 1, steps, 1]. */
  readonly fromStart: Tensor;
  readonly untilEnd: Tensor;
  /** Whether the state before the chunk and the last step are of the same document: [rows, 1, 1, 1]. */
  readonly whole: Tensor;
}

function bordersOf(documents: Tensor, steps: number, chunks: Dim, groups: number): Borders {
  const [batch, sequence] = documents.shape as [Dim, Dim];
  const all = multiplyDims([chunks, steps]);
  const rest = addDims(all, multiplyDims([sequence, -1]));
  const filling = rest === 0 ? [] : [broadcastTo(lastDocument(documents), [batch, rest])];
  // The document of the state before the first chunk, then of each step.
  const numbers = concat([zeros([batch, 1], 'int64'), documents, ...filling], 1);
  const inChunks = (from: Dim): Tensor =>
    reshape(slice(numbers, 1, from, addDims(all, from)), [batch, chunks, steps]);
  const own = inChunks(1);
  const before = slice(inChunks(0), 2, 0, 1);
  const last = slice(own, 2, steps - 1, steps);
  const toRows = (x: Tensor): Tensor => {
    const [height, width] = x.shape.slice(2) as [Dim, Dim];
    const spread = broadcastTo(reshape(x, [batch, chunks, 1, height, width]), [
      batch,
      chunks,
      groups,
      height,
      width,
    ]);
    return reshape(spread, [multiplyDims([batch, chunks, groups]), 1, height, width]);
  };
  const column = (x: Tensor): Tensor => reshape(x, [batch, chunks, -1, 1]);
  return {
    between: toRows(sameDocument(column(own), reshape(own, [batch, chunks, 1, steps]))),
    fromStart: toRows(column(sameDocument(own, before))),
    untilEnd: toRows(column(sameDocument(own, last))),
    whole: toRows(column(sameDocument(last, before))),
  };
}

/** Decay within chunks: gates [rows, members, steps, 1 or keySize]. */
class Decay {
  /** The sum of the gates up to each step, its own included. */
  private readonly sums: Tensor;
  private readonly perKey: boolean;
  private readonly last: Tensor;

  constructor(
    gates: Tensor,
    private readonly borders: Borders | undefined,
  ) {
    const steps = gates.shape[2] as number;
    this.sums = cumulativeSum(gates, 2);
    this.perKey = gates.shape[3] !== 1;
    this.last = slice(this.sums, 2, steps - 1, steps);
  }

  /** The decay over a whole chunk, as a factor of the state's rows: [rows, members, 1 or keySize, 1]. */
  whole(): Tensor {
    return this.hidden(exp(transpose(this.last, [0, 1, 3, 2])), 'whole');
  }

  /** exp(c): [rows, members, steps, 1 or keySize]. */
  sinceStart(): Tensor {
    return this.hidden(exp(this.sums), 'fromStart');
  }

  /** (q exp(c)) S */
  fromStart(q: Tensor, states: Tensor): Tensor {
    const factors = narrow(this.sinceStart());
    return this.perKey ? matmul(multiply(q, factors), states) : multiply(matmul(q, states), factors);
  }

  /** (k exp(c_last - c))^T x */
  untilEnd(k: Tensor, x: Tensor): Tensor {
    const factors = narrow(this.hidden(exp(subtract(this.last, this.sums)), 'untilEnd'));
    return this.perKey
      ? matmul(multiply(k, factors), x, { transposeA: true })
      : matmul(k, multiply(x, factors), { transposeA: true });
  }

  /** x . y of [rows, members, steps, keySize], for each x and each y: [rows, members, steps, steps]. */
  products(xs: readonly Tensor[], ys: readonly Tensor[]): Tensor[][] {
    const steps = this.sums.shape[2] as number;
    if (this.perKey) {
      const ofAll = (x: Tensor): Tensor => broadcastTo(x, this.sums.shape);
      const products = decayedProducts(xs.map(ofAll), ys.map(ofAll), this.sums);
      return products.map((row) => row.map((product) => this.hidden(product, 'between')));
    }
    const between = subtract(this.sums, transpose(this.sums, [0, 1, 3, 2]));
    const factors = narrow(exp(where(causal(steps, 'bool'), between, NEVER)));
    return xs.map((x) =>
      ys.map((y) => this.hidden(multiply(matmul(x, y, { transposeB: true }), factors), 'between')),
    );
  }

  /** x with 0 wherever the two steps, or the step and the state, belong to different documents. */
  private hidden(x: Tensor, what: keyof Borders): Tensor {
    return this.borders ? multiply(x, narrow(this.borders[what])) : x;
  }
}

/** [steps, steps]: whether a step comes no later than another, as 1 or as true. */
function causal(steps: number, dtype: 'float32' | 'bool' = 'float32'): Tensor {
  const places = iota(steps);
  return cast(lessOrEqual(places, reshape(places, [-1, 1])), dtype);
}

/** [batch, sequence, count * size] with each of `count` heads repeated, to make `heads`. */
function spread(x: Tensor, count: number, heads: number): Tensor {
  if (count === heads) return x;
  const [batch, sequence] = x.shape as [Dim, Dim, number];
  const grouped = reshape(x, [batch, sequence, count, 1, divideDim(x.shape[2]!, count)!]);
  const size = grouped.shape[4]!;
  const repeated = broadcastTo(grouped, [batch, sequence, count, heads / count, size]);
  return reshape(repeated, [batch, sequence, multiplyDims([heads, size])]);
}

function leastCommonMultiple(a: number, b: number): number {
  let multiple = Math.max(a, b);
  while (multiple % a !== 0 || multiple % b !== 0) multiple += Math.max(a, b);
  return multiple;
}
