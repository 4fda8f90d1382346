/**
 * Mamba-3 (Lahoti et al., 2026, arXiv 2603.15569), as in state-spaces/mamba's modules/mamba3.py. Beside Mamba-2 it has the
 * trapezoidal rule, by which a step takes in what stands at both of its ends; keys and queries that turn by angles that depend on
 * the tokens, as if the state were complex; norms and biases of B and C; and no short convolution:
 *
 *     z, x, B, C, dt, A, l, angle = in_proj(u)       dt = softplus(dt + dt_bias)
 *     A = min(-heavyTail(A), -1e-4)                  l = sigmoid(l), a = exp(A dt)
 *     phi_t = phi_(t-1) + pi tanh(angle) dt          k = turn(norm(B) + B_bias, phi), q = turn(norm(C) + C_bias, phi)
 *     S_t = a S_(t-1) + (1 - l) dt a k_(t-1) x_(t-1)^T + l dt k_t x_t^T
 *     y_t = S_t^T q_t + D x_t                        out_proj(y * silu(z))
 *
 * with heavyTail(x) = 1 + x, for a negative x 1 / (1 - x), and phi for each head and pair of numbers that turns: neighbours, of the first
 * `ropeFraction` of a key. With an output norm, a norm of each head of y stands before the gate. With a rank R (multiple inputs and outputs) a
 * token has R keys and queries, and values x * mimo_x_r: S takes in the sum of k_r x_r^T, and
 * y = sum_r mimo_o_r (S^T q_r + D x_r) silu(z * mimo_z_r); number i of a key then turns with number i + stateSize / 2.
 *
 * What a token adds at its own end is H_t = S_t - l dt k_t x_t^T less than S_t, which is a plain recurrence over the tokens before:
 * H_t = a (H_(t-1) + (l_(t-1) dt_(t-1) + (1 - l) dt) k_(t-1) x_(t-1)^T). So H is kept, and what its next step takes of the last token.
 *
 * State for one sequence: `ssm` [numHeads, stateSize, headDim] (H), `angle` [numHeads, angles] (phi), and of the last token `key`
 * [rank, numHeads * stateSize], `value` [rank, numHeads * headDim] and `weight` [numHeads] (l dt).
 */
import { ConfigError } from '../../errors.js';
import {
  add,
  addDims,
  broadcastTo,
  concat,
  cos,
  type Dim,
  divide,
  exp,
  isFirstOfDocument,
  linearRecurrence,
  matmul,
  maximum,
  minimum,
  multiply,
  multiplyDims,
  narrow,
  negate,
  repeatedEach,
  reshape,
  runningAngles,
  sigmoid,
  silu,
  sin,
  slice,
  softplus,
  split,
  subtract,
  sum,
  type Tensor,
  tanh,
  transpose,
  where,
  zeros,
} from '../../graph/index.js';
import { linear, perChannel, rmsNorm } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { constantly, normal, type Parameters } from '../parameters.js';
import { initialTimeStep } from './mamba2.js';

/** Sizes of a Mamba-3 layer. The inner width is numHeads * headDim. */
export interface Mamba3Config {
  hiddenSize: number;
  numHeads: number;
  headDim: number;
  stateSize: number;
  /** Heads in a group share B and C, before the biases. */
  numGroups: number;
  /** The part of a key that turns. */
  ropeFraction: 0.5 | 1;
  /** R keys and queries a token, and as many values; without it one. */
  mimoRank?: number | undefined;
  /** A is at most minus this; 1e-4 by default. */
  leastDecay?: number | undefined;
  /** Whether each head's y is RMS-normed before the gate. */
  outputNorm?: boolean | undefined;
  outputDeviation: number;
}

const LEAST_DECAY = 1e-4;

const NORM_EPSILON = 1e-5;

/** Throws `ConfigError` where groups do not divide the heads, or nothing of a key would turn. */
export function mamba3(config: Mamba3Config): Mixer {
  const { hiddenSize, numHeads, headDim, stateSize, numGroups, ropeFraction, mimoRank } = config;
  const rank = mimoRank ?? 1;
  const inner = numHeads * headDim;
  const shared = numGroups * stateSize * rank;
  const angles = Math.floor((stateSize * ropeFraction) / 2);
  if (numHeads % numGroups !== 0) {
    throw new ConfigError(`${numHeads} heads cannot share ${numGroups} groups of B and C evenly`);
  }
  if (angles === 0 || stateSize % 2 !== 0) {
    throw new ConfigError(
      `a state size of ${stateSize} has no pairs of which ${ropeFraction} could turn: it must be even, and at least ${2 / ropeFraction}`,
    );
  }
  const keys = numHeads * stateSize;
  return {
    state: [
      { name: 'ssm', dtype: 'float32', shape: ['batch', numHeads, stateSize, headDim], initial: 0 },
      { name: 'angle', dtype: 'float32', shape: ['batch', numHeads, angles], initial: 0 },
      { name: 'key', dtype: 'float32', shape: ['batch', rank, keys], initial: 0 },
      { name: 'value', dtype: 'float32', shape: ['batch', rank, inner], initial: 0 },
      { name: 'weight', dtype: 'float32', shape: ['batch', numHeads], initial: 0 },
    ],
    forward(parameters, u, { state, documents, observe }) {
      const [batch, sequence] = u.shape as [Dim, Dim, Dim];
      const widths = [inner, inner, shared, shared, numHeads, numHeads, numHeads, angles];
      const total = widths.reduce((a, b) => a + b);
      const projected = parameters.within('in_proj', (p) => linear(p, u, total));
      const [z, x, B, C, dtRaw, ARaw, trap, angle] = split(projected, -1, widths) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const bias = parameters.get('dt_bias', [numHeads], initialTimeStep, { decay: false });
      const dt = softplus(add(dtRaw, bias));
      const gate = multiply(minimum(negate(heavyTail(ARaw)), -(config.leastDecay ?? LEAST_DECAY)), dt);
      const share = sigmoid(trap);
      const weight = multiply(share, dt);

      const phases = phasesOf(angle, dt, state?.angle);
      // They are multiplied in matrices, so that they are kept in the precision of those.
      const turned = (name: 'B' | 'C', raw: Tensor): Tensor =>
        narrow(
          reshape(turn(biased(parameters, name, raw, config), phases, mimoRank === undefined), [
            batch,
            sequence,
            rank,
            keys,
          ]),
        );
      const key = turned('B', B);
      const query = turned('C', C);
      const value = mimoRank ? ranked(parameters, 'mimo_x', x, config, 1 / rank) : ranks(x, 1);

      const before = delayed(key, state?.key, documents);
      const entering = multiply(
        add(delayed(weight, state?.weight, documents), multiply(subtract(1, share), dt)),
        exp(gate),
      );
      const held = delayed(value, state?.value, documents);
      const operands = {
        query: inSubsteps(query, 'last'),
        key: inSubsteps(before, 'first'),
        value: inSubsteps(
          multiply(held, reshape(perChannel(entering, headDim), [batch, sequence, 1, inner])),
          'first',
        ),
        gate: inSubsteps(reshape(gate, [batch, sequence, 1, numHeads]), 'first', rank),
        state: state?.ssm,
        documents: documents && repeatedEach(documents, 2 * rank - 1),
      };
      const heads = { query: numHeads, key: numHeads, value: numHeads };
      const own = ownReading(query, key, weight, config);
      observe?.({
        kind: 'recurrence',
        operands: { ...operands, query: sum(query, 2), key: sum(before, 2), gate },
        heads,
        factor: entering,
        delayed: { own: reshape(sum(own, [3, 4]), [batch, sequence, numHeads]) },
      });
      const recurrence = linearRecurrence(operands, heads);
      const read = fromSubsteps(recurrence.output, rank, inner);

      const D = parameters.get('D', [numHeads], constantly(1), { decay: false });
      const y = add(add(read, byRank(own, value, config)), multiply(value, perChannel(D, headDim)));
      const normed = config.outputNorm
        ? parameters.within('norm', (p) => rmsNorm(p, y, { epsilon: NORM_EPSILON, groups: numHeads }))
        : y;
      const gated = multiply(
        normed,
        silu(mimoRank ? ranked(parameters, 'mimo_z', z, config, 1) : ranks(z, 1)),
      );
      const joined = mimoRank ? multiply(gated, rankWeights(parameters, 'mimo_o', config, 1 / rank)) : gated;
      const output = parameters.within('out_proj', (p) =>
        linear(p, sum(joined, 2), hiddenSize, { initialize: normal(config.outputDeviation) }),
      );
      return {
        output,
        state: {
          ssm: recurrence.state,
          angle: lastOf(phases),
          key: lastOf(key),
          value: lastOf(value),
          weight: lastOf(weight),
        },
      };
    },
  };
}

/** 1 + x, for a negative x 1 / (1 - x). */
function heavyTail(x: Tensor): Tensor {
  return add(maximum(x, 0), divide(1, subtract(1, minimum(x, 0))));
}

/** The last token of x [batch, sequence, ...]. */
function lastOf(x: Tensor): Tensor {
  const sequence = x.shape[1]!;
  return reshape(slice(x, 1, addDims(sequence, -1), sequence), [x.shape[0]!, ...x.shape.slice(2)]);
}

/** Of each token the one before in its document: x [batch, sequence, ...], after `last` [batch, ...]. */
function delayed(x: Tensor, last: Tensor | undefined, documents: Tensor | undefined): Tensor {
  const [batch, sequence, ...rest] = x.shape as [Dim, Dim, ...Dim[]];
  const first = last ? reshape(last, [batch, 1, ...rest]) : zeros([batch, 1, ...rest]);
  const before = slice(concat([first, x], 1), 1, 0, sequence);
  if (!documents) return before;
  return where(reshape(isFirstOfDocument(documents), [batch, sequence, ...rest.map(() => 1)]), 0, before);
}

/** phi of each token: [batch, sequence, numHeads, angles]. */
function phasesOf(angle: Tensor, dt: Tensor, before: Tensor | undefined): Tensor {
  const [batch, sequence, angles] = angle.shape as [Dim, Dim, Dim];
  const numHeads = dt.shape[2]!;
  const steps = multiply(
    reshape(multiply(tanh(angle), Math.PI), [batch, sequence, 1, angles]),
    reshape(dt, [batch, sequence, numHeads, 1]),
  );
  return runningAngles(steps, before);
}

/** norm(B) + B_bias for all heads: [batch, sequence, rank, numHeads, stateSize]. */
function biased(
  parameters: Parameters,
  name: 'B' | 'C',
  raw: Tensor,
  { numHeads, numGroups, stateSize, mimoRank: rank = 1 }: Mamba3Config,
): Tensor {
  const [batch, sequence] = raw.shape as [Dim, Dim, Dim];
  const normalized = parameters.within(`${name}_norm`, (p) =>
    rmsNorm(p, reshape(raw, [batch, sequence, rank, numGroups, stateSize]), { epsilon: NORM_EPSILON }),
  );
  const each = numHeads / numGroups;
  const grouped = reshape(normalized, [batch, sequence, rank, numGroups, 1, stateSize]);
  const spread = broadcastTo(grouped, [batch, sequence, rank, numGroups, each, stateSize]);
  const bias = parameters.get(`${name}_bias`, [numHeads, rank, stateSize], constantly(1), { decay: false });
  return add(
    reshape(spread, [batch, sequence, rank, numHeads, stateSize]),
    reshape(transpose(bias, [1, 0, 2]), [1, 1, rank, numHeads, stateSize]),
  );
}

/** Turns pairs of x [batch, sequence, rank, numHeads, size] by phases [batch, sequence, numHeads, angles], those behind not at all. */
function turn(x: Tensor, phases: Tensor, areNeighbours: boolean): Tensor {
  const size = x.shape[4] as number;
  const leading = x.shape.slice(0, -1);
  const [batch, sequence, numHeads, angles] = phases.shape as [Dim, Dim, Dim, number];
  const rest = size / 2 - angles;
  const pairs = areNeighbours
    ? split(reshape(x, [...leading, size / 2, 2]), -1, [1, 1]).map((part) =>
        reshape(part, [...leading, size / 2]),
      )
    : split(x, -1, [size / 2, size / 2]);
  const [[first, firstRest], [second, secondRest]] = pairs.map((part) =>
    rest > 0 ? split(part, -1, [angles, rest]) : [part],
  ) as [[Tensor, Tensor?], [Tensor, Tensor?]];
  const around = (f: (x: Tensor) => Tensor): Tensor =>
    reshape(f(phases), [batch, sequence, 1, numHeads, angles]);
  const [c, s] = [around(cos), around(sin)];
  const whole = (part: Tensor, still: Tensor | undefined): Tensor =>
    still ? concat([part, still], -1) : part;
  const turned = [
    whole(subtract(multiply(first, c), multiply(second, s)), firstRest),
    whole(add(multiply(first, s), multiply(second, c)), secondRest),
  ];
  if (!areNeighbours) return concat(turned, -1);
  const columns = turned.map((part) => reshape(part, [...leading, size / 2, 1]));
  return reshape(concat(columns, -1), x.shape);
}

/** x [batch, sequence, width] for each rank. */
function ranks(x: Tensor, rank: number): Tensor {
  const [batch, sequence, width] = x.shape as [Dim, Dim, Dim];
  return broadcastTo(reshape(x, [batch, sequence, 1, width]), [batch, sequence, rank, width]);
}

/** Factors of each rank's channels: [rank, numHeads * headDim]. */
function rankWeights(
  parameters: Parameters,
  name: string,
  { numHeads, headDim, mimoRank }: Mamba3Config,
  initial: number,
): Tensor {
  const stored = parameters.get(name, [numHeads, mimoRank!, headDim], constantly(initial), { decay: false });
  return reshape(transpose(stored, [1, 0, 2]), [mimoRank!, numHeads * headDim]);
}

function ranked(
  parameters: Parameters,
  name: string,
  x: Tensor,
  config: Mamba3Config,
  initial: number,
): Tensor {
  return multiply(ranks(x, config.mimoRank!), rankWeights(parameters, name, config, initial));
}

/**
 * A token of rank R takes 2R - 1 steps of the recurrence: R write, and the last of those and R - 1 more read, when all is written. Places
 * x [batch, sequence, R or 1, width] at the first or the last of them, and zeros elsewhere: [batch, sequence * steps, width].
 */
function inSubsteps(x: Tensor, place: 'first' | 'last', rank = x.shape[2] as number): Tensor {
  const [batch, sequence, count, width] = x.shape as [Dim, Dim, number, Dim];
  const steps = 2 * rank - 1;
  const rest = steps - count;
  const none = rest > 0 ? [zeros([batch, sequence, rest, width])] : [];
  const all = concat(place === 'first' ? [x, ...none] : [...none, x], 2);
  return reshape(all, [batch, multiplyDims([sequence, steps]), width]);
}

/** What the last R steps of each token have read: [batch, sequence, R, width]. */
function fromSubsteps(read: Tensor, rank: number, width: number): Tensor {
  const steps = 2 * rank - 1;
  return slice(reshape(read, [read.shape[0]!, -1, steps, width]), 2, rank - 1, steps);
}

/** How much of a token's own values its queries read: l dt q_r . k_s, [batch, sequence, numHeads, R, R]. */
function ownReading(
  query: Tensor,
  key: Tensor,
  weight: Tensor,
  { numHeads, stateSize, mimoRank: rank = 1 }: Mamba3Config,
): Tensor {
  const [batch, sequence] = query.shape as [Dim, Dim, Dim];
  const byHead = (x: Tensor): Tensor =>
    transpose(reshape(x, [batch, sequence, rank, numHeads, stateSize]), [0, 1, 3, 2, 4]);
  const products =
    rank === 1
      ? sum(multiply(byHead(query), byHead(key)), -1, { keepDims: true })
      : matmul(byHead(query), byHead(key), { transposeB: true });
  return multiply(products, reshape(weight, [batch, sequence, numHeads, 1, 1]));
}

/** `own` times the values [batch, sequence, R, numHeads * headDim], by rank. */
function byRank(own: Tensor, value: Tensor, { numHeads, headDim, mimoRank: rank = 1 }: Mamba3Config): Tensor {
  const [batch, sequence] = value.shape as [Dim, Dim, Dim];
  const values = transpose(reshape(value, [batch, sequence, rank, numHeads, headDim]), [0, 1, 3, 2, 4]);
  const read = rank === 1 ? multiply(values, own) : matmul(own, values);
  return reshape(transpose(read, [0, 1, 3, 2, 4]), value.shape);
}
