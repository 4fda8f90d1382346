/**
 * The gradient of the linear recurrence, exact and with no state of the past kept. Let u_t be what step t writes, so that
 * S_t = D_t + k_t u_t^T; without the delta rule u_t = v_t. With G_t = dL/dS_t and H_t = dL/dD_t,
 *
 *     G_t = q_t do_t^T + diag(exp(g_(t+1))) H_(t+1)       H_t = G_t - k_t w_t^T       w_t = beta_t G_t^T k_t
 *
 * (w = 0 without the delta rule) and
 *
 *     dq_t = S_t do_t                dv_t = G_t^T k_t, or w_t                dS_0 = diag(exp(g_1)) H_1
 *     dk_t = G_t u_t - D_t w_t       dbeta_t = (v_t - D_t^T k_t) . G_t^T k_t
 *
 * so each is this recurrence again, on transposed states or reversed time: once u and w are known, S and G are decaying
 * sums, whatever the rule by which they came about. The gate's gradient is a running sum: <G_t, S_t> can be split at
 * either end of step t, so dg_t = dg_(t+1) + q_t dq_t - k_t (G_t u_t + D_t w_t) for each row of the state, and for a whole
 * head dg_t = dg_(t+1) + o_t . do_t - v_t . dv_t.
 */
import type { Dim } from '../shape.js';
import type { GradientContext, Tensor } from '../tensor.js';
import { broadcastTo, reshape, sum } from './broadcast.js';
import { fill, zeros } from './constant.js';
import { add, exp, multiply, subtract } from './elementwise.js';
import { concat, reverse, slice, transpose } from './layout.js';
import { type Heads, linearRecurrence } from './recurrence.js';
import { cumulativeSum } from './reduce.js';

type RecurrenceOperands = readonly [
  query: Tensor,
  key: Tensor,
  value: Tensor,
  gate: Tensor | undefined,
  state: Tensor | undefined,
  beta: Tensor | undefined,
];

/** dL/d(query, key, value, gate, state, beta). */
export function recurrenceGradient(context: GradientContext<{ heads: Heads }>): (Tensor | undefined)[] {
  const { inputs, outputs, needs, attributes } = context;
  const { heads } = attributes;
  const [query, key, value, gate, state, beta] = inputs as RecurrenceOperands;
  const [output, finalState] = outputs as [Tensor, Tensor];
  const g = context.outputGradients[0] ?? zeros(output.shape);
  const finalGradient = context.outputGradients[1];
  const batch = value.shape[0]!;
  const keySize = finalState.shape[2] as number;
  const perRow = gate !== undefined && gate.shape[2] !== heads.value;

  const queries = spread(query, heads.query, heads.value);
  const keys = spread(key, heads.key, heads.value);
  const laterGate = gate && inTime(later(gate));
  const dot = (x: Tensor, y: Tensor): Tensor => sum(byHead(multiply(x, y), heads.value), -1);
  const scale = (x: Tensor, factors: Tensor): Tensor => scaleHeads(x, factors, heads.value);

  // A gate for each row of the state becomes one for each head once every row is a head of its own.
  const rowHeads = perRow ? heads.value * keySize : heads.value;
  const byRow = { query: heads.value, key: heads.value, value: rowHeads };
  const transposed = (x?: Tensor): Tensor | undefined =>
    x && transpose(reshape(x, [batch, rowHeads, -1, x.shape[3]!]), [0, 1, 3, 2]);
  /** A_t x_t, where A_t is the decaying sum of row_s column_s^T over the steps up to t, and the first state. */
  const past = (row: Tensor, column: Tensor, x: Tensor): Tensor =>
    linearRecurrence({ query: x, key: column, value: row, gate, state: transposed(state) }, byRow).output;
  /** The same over the steps from t on, and `after`. */
  const future = (row: Tensor, column: Tensor, x: Tensor, after?: Tensor): Tensor => {
    const reversed = { query: inTime(x), key: inTime(column), value: inTime(row) };
    return inTime(linearRecurrence({ ...reversed, gate: laterGate, state: transposed(after) }, byRow).output);
  };

  const backwards = gradientOfWritten(
    { query: inTime(query), key: inTime(key), outputGradient: inTime(g), beta: beta && inTime(beta) },
    laterGate,
    finalGradient,
    heads,
  );
  const dWritten = inTime(backwards.output);
  const dValue = beta ? scale(dWritten, beta) : dWritten;
  const error = beta && subtract(value, foundByKeys(inputs as RecurrenceOperands, heads));
  const written = error ? scale(error, beta) : value;

  const dQuery = past(keys, written, g);
  // G_t u_t and D_t w_t
  const throughWrite = future(queries, g, written, finalGradient);
  const dKeyParts = (): { added: Tensor; takenOut?: Tensor } => {
    if (!beta) return { added: throughWrite };
    const own = scale(keys, dot(written, dValue));
    return {
      added: add(subtract(throughWrite, future(keys, dValue, written)), own),
      takenOut: subtract(past(keys, written, dValue), own),
    };
  };
  const { added, takenOut } = dKeyParts();
  const gradientGate = (): Tensor => {
    const inflow = perRow
      ? subtract(multiply(queries, dQuery), multiply(keys, takenOut ? add(added, takenOut) : added))
      : subtract(dot(output, g), dot(value, dValue));
    const running = cumulativeSum(inflow, 1, { reverse: true });
    if (!finalGradient) return running;
    const held = sum(multiply(finalGradient, finalState), perRow ? [3] : [2, 3]);
    return add(running, reshape(held, [batch, 1, -1]));
  };
  const gradientState = (): Tensor => {
    if (!gate) return backwards.state;
    const first = reshape(slice(gate, 1, 0, 1), [batch, heads.value, -1, 1]);
    return multiply(exp(first), backwards.state);
  };
  const dKey = takenOut ? subtract(added, takenOut) : added;
  return [
    needs(0) ? shareOut(dQuery, heads.query, heads.value) : undefined,
    needs(1) ? shareOut(dKey, heads.key, heads.value) : undefined,
    needs(2) ? dValue : undefined,
    needs(3) ? gradientGate() : undefined,
    needs(4) ? gradientState() : undefined,
    error && needs(5) ? dot(error, dWritten) : undefined,
  ];
}

/** D_t^T k_t: each write is put off by a step, so that a step reads what it decays with the key it will write. */
function foundByKeys([, key, value, gate, state, beta]: RecurrenceOperands, heads: Heads): Tensor {
  const keys = spread(key, heads.key, heads.value);
  return linearRecurrence(
    {
      query: gate ? scaleHeads(keys, exp(gate), heads.value) : keys,
      key: earlier(key),
      value: earlier(value),
      gate: gate && earlier(gate),
      beta: beta && earlier(beta),
      state,
    },
    { ...heads, query: heads.value },
  ).output;
}

/**
 * All in reversed time: G_t^T k_t, and H_1. Under the delta rule H_t = (I - beta_t k_t k_t^T) G_t, so a step of that
 * recurrence is two of ours: a plain write, then a value of 0 by the delta rule. To the delta rule, a plain write is one
 * of a key scaled by c and a value scaled by 1 / c: what it takes out is then scaled by c^2, which is nothing to float32.
 */
function gradientOfWritten(
  reversed: { query: Tensor; key: Tensor; outputGradient: Tensor; beta: Tensor | undefined },
  gate: Tensor | undefined,
  state: Tensor | undefined,
  heads: Heads,
): { output: Tensor; state: Tensor } {
  const { query, key, outputGradient: g, beta } = reversed;
  if (!beta) {
    return linearRecurrence(
      { query: key, key: query, value: g, gate, state },
      { query: heads.key, key: heads.query, value: heads.value },
    );
  }
  const c = 2 ** -32;
  const count = heads.query === heads.key ? heads.key : heads.value;
  const keys = spread(key, heads.key, count);
  const steps = linearRecurrence(
    {
      query: alternate(keys, keys),
      key: alternate(multiply(spread(query, heads.query, count), c), keys),
      value: alternate(multiply(g, 1 / c), zeros(g.shape)),
      gate: gate && alternate(gate, zeros(gate.shape)),
      beta: alternate(fill(beta.shape, 1), beta),
      state,
    },
    { query: count, key: count, value: heads.value },
  );
  const [batch, sequence, width] = g.shape as [Dim, Dim, number];
  const pairs = reshape(steps.output, [batch, sequence, 2, width]);
  return { output: reshape(slice(pairs, 2, 0, 1), g.shape), state: steps.state };
}

function inTime(x: Tensor): Tensor {
  return reverse(x, 1);
}

/** a[0], b[0], a[1], b[1], ... along time. */
function alternate(a: Tensor, b: Tensor): Tensor {
  const [batch, sequence, width] = a.shape as [Dim, Dim, number];
  const pairs = [a, b].map((x) => reshape(x, [batch, sequence, 1, width]));
  return reshape(concat(pairs, 2), [batch, -1, width]);
}

/** x[t+1] at t, and zero at the end. */
function later(x: Tensor): Tensor {
  return concat([slice(x, 1, 1, x.shape[1]!), oneStepOfZeros(x)], 1);
}

/** x[t-1] at t, and zero at the start. */
function earlier(x: Tensor): Tensor {
  return slice(concat([oneStepOfZeros(x), x], 1), 1, 0, x.shape[1]!);
}

function oneStepOfZeros(x: Tensor): Tensor {
  return zeros([x.shape[0]!, 1, x.shape[2]!]);
}

/** [batch, sequence, heads, size] */
function byHead(x: Tensor, heads: number): Tensor {
  const [batch, sequence] = x.shape as [Dim, Dim, number];
  return reshape(x, [batch, sequence, heads, -1]);
}

/** x times factors of which there is one for each head, or one for each number. */
function scaleHeads(x: Tensor, factors: Tensor, heads: number): Tensor {
  return reshape(multiply(byHead(x, heads), byHead(factors, heads)), x.shape);
}

/** [batch, sequence, count * size] with every one of `count` heads repeated to make `heads`. */
function spread(x: Tensor, count: number, heads: number): Tensor {
  if (count === heads) return x;
  const [batch, sequence, width] = x.shape as [Dim, Dim, number];
  const size = width / count;
  const grouped = reshape(x, [batch, sequence, count, 1, size]);
  return reshape(broadcastTo(grouped, [batch, sequence, count, heads / count, size]), [
    batch,
    sequence,
    heads * size,
  ]);
}

/** The transpose of `spread`: sums over the heads that share. */
function shareOut(x: Tensor, count: number, heads: number): Tensor {
  if (count === heads) return x;
  const [batch, sequence, width] = x.shape as [Dim, Dim, number];
  const size = width / heads;
  return reshape(sum(reshape(x, [batch, sequence, count, heads / count, size]), 3), [
    batch,
    sequence,
    count * size,
  ]);
}
