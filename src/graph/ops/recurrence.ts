/**
 * The gated linear recurrence, the core of Mamba, Mamba-2, linear attention and their kin:
 *
 *     S_t = diag(exp(g_t)) S_(t-1) + k_t v_t^T        o_t = S_t^T q_t
 *
 * with a state S [keySize, valueSize] for each head. With G_t = dL/dS_t, which obeys the same recurrence backwards in
 * time (G_t = q_t do_t^T + diag(exp(g_(t+1))) G_(t+1)), its gradient is
 *
 *     dq_t = S_t do_t      dk_t = G_t v_t      dv_t = G_t^T k_t      dS_0 = diag(exp(g_1)) G_1
 *
 * so each is this recurrence again, on transposed states or reversed time. The gate's is a running sum: since
 * <G_t, S_t> can be split at either end of step t, dg_t = q_t dq_t - k_t dk_t + dg_(t+1) for each row of the state.
 */
import { ShapeError } from '../../errors.js';
import type { Dim } from '../shape.js';
import { apply, defineOperator, type GradientContext, type Tensor, type TensorType } from '../tensor.js';
import { add, multiply, subtract } from './arithmetic.js';
import { zeros } from './constant.js';
import { exp } from './elementwise.js';
import { broadcastTo, concat, reshape, reverse, slice, transpose } from './layout.js';
import { cumulativeSum, sum } from './reduce.js';

interface Heads {
  readonly query: number;
  readonly key: number;
  readonly value: number;
}

const recurrenceOperator = defineOperator<{ heads: Heads }>({
  name: 'linearRecurrence',
  infer([query, key, value, gate, state], { heads }) {
    const { batch, sequence, keySize, valueSize } = sizes(query!, value!, heads);
    const expectShape = (what: string, x: TensorType, size: number): void => {
      if (x.shape.length !== 3 || x.shape[0] !== batch || x.shape[1] !== sequence || x.shape[2] !== size) {
        throw new ShapeError(`the ${what} must be [${batch},${sequence},${size}]`);
      }
    };
    if (heads.value % heads.query !== 0 || heads.value % heads.key !== 0) {
      throw new ShapeError(
        `${heads.value} heads cannot share ${heads.query} queries and ${heads.key} keys evenly`,
      );
    }
    expectShape('query', query!, heads.query * keySize);
    expectShape('key', key!, heads.key * keySize);
    expectShape('value', value!, heads.value * valueSize);
    if (gate) expectShape('gate', gate, gate.shape[2] === heads.value ? heads.value : heads.value * keySize);
    const stateShape = [batch, heads.value, keySize, valueSize];
    if (state && (state.shape.length !== 4 || state.shape.some((dim, i) => dim !== stateShape[i]))) {
      throw new ShapeError(`the state must be [${stateShape}]`);
    }
    return [
      { dtype: 'float32', shape: [batch, sequence, heads.value * valueSize] },
      { dtype: 'float32', shape: stateShape },
    ];
  },
  gradient: (context) => recurrenceGradient(context),
  lower: (builder, [query, key, value, gate, state], { attributes: { heads } }) =>
    builder.emit('LinearAttention', [query!, key!, value!, state!, gate!], {
      domain: 'com.microsoft',
      attributes: {
        q_num_heads: { int: heads.query },
        kv_num_heads: { int: heads.value },
        update_rule: { string: gate === '' ? 'linear' : 'gated' },
        // 0 would mean 1/sqrt(keySize).
        scale: { float: 1 },
      },
      outputs: 2,
    }),
});

function sizes(query: TensorType, value: TensorType, heads: Heads) {
  if (query.shape.length !== 3 || value.shape.length !== 3)
    throw new ShapeError('the operands must have rank 3');
  const [batch, sequence, width] = query.shape;
  const keySize = (width as number) / heads.query;
  const valueSize = (value.shape[2] as number) / heads.value;
  if (!Number.isInteger(keySize) || !Number.isInteger(valueSize)) {
    throw new ShapeError(`the widths do not divide into ${heads.query} query and ${heads.value} value heads`);
  }
  return { batch: batch!, sequence: sequence!, keySize, valueSize };
}

function recurrenceGradient(context: GradientContext<{ heads: Heads }>): (Tensor | undefined)[] {
  const { inputs, outputs, needs, attributes } = context;
  const { heads } = attributes;
  const [query, key, value] = inputs as [Tensor, Tensor, Tensor];
  const [, , , gate, state] = inputs;
  const [, finalState] = outputs as [Tensor, Tensor];
  const g = context.outputGradients[0] ?? zeros(outputs[0]!.shape);
  const finalGradient = context.outputGradients[1];
  const { batch, sequence, keySize } = sizes(query, value, heads);
  const perKey = gate !== undefined && gate.shape[2] !== heads.value;

  // A gate for each row of the state becomes one for each head once every row is a head of its own.
  const rows = perKey ? keySize : 1;
  const rowHeads = heads.value * rows;
  const asRowStates = (x: Tensor): Tensor => reshape(x, [batch, rowHeads, keySize / rows, x.shape[3]!]);
  const transposed = (x: Tensor): Tensor => transpose(asRowStates(x), [0, 1, 3, 2]);
  const perHead = (x: Tensor, count: number): Tensor => spread(x, count, heads.value);

  const inTime = (x: Tensor): Tensor => reverse(x, 1);
  const laterGate = gate && inTime(shiftLeft(gate));

  const gradientQuery = (): Tensor =>
    linearRecurrence(
      { query: g, key: value, value: perHead(key, heads.key), gate, state: state && transposed(state) },
      { query: heads.value, key: heads.value, value: rowHeads },
    ).output;
  const backwards = linearRecurrence(
    { query: inTime(key), key: inTime(query), value: inTime(g), gate: laterGate, state: finalGradient },
    { query: heads.key, key: heads.query, value: heads.value },
  );
  const gradientKey = (): Tensor =>
    inTime(
      linearRecurrence(
        {
          query: inTime(value),
          key: inTime(g),
          value: perHead(inTime(query), heads.query),
          gate: laterGate,
          state: finalGradient && transposed(finalGradient),
        },
        { query: heads.value, key: heads.value, value: rowHeads },
      ).output,
    );
  const gradientValue = inTime(backwards.output);

  const needsGate = gate !== undefined && needs(3);
  const dQuery = needs(0) || (needsGate && perKey) ? gradientQuery() : undefined;
  const dKey = needs(1) || (needsGate && perKey) ? gradientKey() : undefined;
  const gradientGate = (): Tensor => {
    const rowSums = (x: Tensor): Tensor => sum(reshape(x, [batch, sequence, heads.value, -1]), -1);
    const inflow = perKey
      ? subtract(multiply(perHead(query, heads.query), dQuery!), multiply(perHead(key, heads.key), dKey!))
      : subtract(rowSums(multiply(outputs[0]!, g)), rowSums(multiply(value, gradientValue)));
    const running = cumulativeSum(inflow, 1, { reverse: true });
    if (!finalGradient) return running;
    const held = sum(multiply(finalGradient, finalState), perKey ? [3] : [2, 3]);
    return add(running, reshape(held, [batch, 1, -1]));
  };
  const gradientState = (): Tensor => {
    if (!gate) return backwards.state;
    const first = reshape(slice(gate, 1, 0, 1), [batch, heads.value, -1, 1]);
    return multiply(exp(first), backwards.state);
  };
  return [
    needs(0) ? shareOut(dQuery!, heads.query, heads.value) : undefined,
    needs(1) ? shareOut(dKey!, heads.key, heads.value) : undefined,
    needs(2) ? gradientValue : undefined,
    needsGate ? gradientGate() : undefined,
    state && needs(4) ? gradientState() : undefined,
  ];
}

/** x[t+1] at t, and zero (a gate of 1) at the end. */
function shiftLeft(gate: Tensor): Tensor {
  const [batch, sequence, width] = gate.shape as [Dim, Dim, Dim];
  return concat([slice(gate, 1, 1, sequence), zeros([batch, 1, width])], 1);
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

export interface RecurrenceInputs {
  /** [batch, sequence, queryHeads * keySize] */
  query: Tensor;
  /** [batch, sequence, keyHeads * keySize] */
  key: Tensor;
  /** [batch, sequence, heads * valueSize] */
  value: Tensor;
  /** Log decay, at most 0: [batch, sequence, heads], or [batch, sequence, heads * keySize] for one a row of the state. */
  gate?: Tensor | undefined;
  /** [batch, heads, keySize, valueSize]; zeros by default. */
  state?: Tensor | undefined;
}

/**
 * S_t = diag(exp(g_t)) S_(t-1) + k_t v_t^T, o_t = S_t^T q_t. Consecutive value heads share a query or a key where there
 * are fewer of those. Returns `output` [batch, sequence, heads * valueSize] and the final `state`.
 */
export function linearRecurrence(inputs: RecurrenceInputs, heads: Heads): { output: Tensor; state: Tensor } {
  const { query, key, value, gate, state } = inputs;
  const [output, finalState] = apply(recurrenceOperator, [query, key, value, gate, state], { heads });
  return { output: output!, state: finalState! };
}
