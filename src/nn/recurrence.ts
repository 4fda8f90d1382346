/**
 * The linear recurrence as a layer keeps it. While a run writes token by token, the state S_0 that it began with stays
 * where it is, since reading a large one, changing it and writing it back would take longer than all else that the
 * layer does with a token. Beside it is kept what was written since, and with D_t = exp(g_1 + ... + g_t) and one
 * decay a head
 *
 *     o_t = D_t S_0^T q_t + R_t^T K_t^T q_t      S_t = D_t S_0 + K_t R_t
 *
 * where the columns of K_t [keySize, steps] are the keys, and the rows of R_t [steps, valueSize] the values, decayed since.
 * Both are small states of the same recurrence: in K_t each key is written for the unit vector of its step, and in R_t that
 * unit vector for its value.
 */
import {
  add,
  type Dim,
  equal,
  exp,
  fill,
  type Heads,
  iota,
  linearRecurrence,
  matmul,
  multiply,
  multiplyDims,
  type RecurrenceInputs,
  reshape,
  type Tensor,
  where,
} from '../graph/index.js';
import type { MixerContext, State, StateSpec } from './mixer.js';

interface RecurrenceSizes {
  readonly heads: number;
  /** Consecutive heads share queries and keys: so many different ones there are. */
  readonly groups: number;
  readonly keySize: number;
  readonly valueSize: number;
}

/** The state [heads, keySize, valueSize] of a recurrence for one sequence. */
export function recurrenceState(name: string, sizes: RecurrenceSizes): StateSpec {
  const { heads, groups, keySize, valueSize } = sizes;
  const kept = (part: string, shape: readonly Dim[], initial: number): StateSpec => ({
    name: part,
    dtype: 'float32',
    shape,
    initial,
  });
  return {
    name,
    dtype: 'float32',
    shape: ['batch', heads, keySize, valueSize],
    initial: 0,
    deferred: [
      kept('keys', ['batch', groups, keySize, 'steps'], 0),
      kept('values', ['batch', heads, 'steps', valueSize], 0),
      kept('decay', ['batch', 1, heads], 1),
    ],
  };
}

/** S_t of S_0 and what was kept beside it. */
export function settle(state: Tensor, [keys, values, decay]: readonly Tensor[]): Tensor {
  const [batch, groups, keySize, steps] = keys!.shape as [Dim, number, number, Dim];
  const [, heads, , valueSize] = state.shape as [Dim, number, number, number];
  const written = matmul(
    reshape(keys!, [batch, groups, 1, keySize, steps]),
    reshape(values!, [batch, groups, heads / groups, steps, valueSize]),
  );
  return add(multiply(state, reshape(decay!, [batch, heads, 1, 1])), reshape(written, state.shape));
}

/**
 * The recurrence with a gate for each head, from the state `name` on: `output` as of linearRecurrence(), and `state` as of a
 * mixer.
 */
export function recur(
  name: string,
  operands: RecurrenceInputs & { gate: Tensor },
  heads: Heads,
  { state, recent, step }: Pick<MixerContext, 'state' | 'recent' | 'step'>,
): { output: Tensor; state: State } {
  const before = state?.[name];
  const [keys, values, decay] = ['keys', 'values', 'decay'].map((part) => recent?.[`${name}.${part}`]);
  if (!before || !keys || !values || !decay || !step) {
    const { output, state } = linearRecurrence({ ...operands, state: before }, heads);
    return { output, state: { [name]: state } };
  }
  const { query, key, value, gate } = operands;
  const [batch, groups, keySize, steps] = keys.shape as [Dim, number, number, Dim];
  const [, count, , valueSize] = before.shape as [Dim, number, number, number];
  const present = reshape(equal(iota(steps), step), [1, steps]);
  const unit = (times: number): Tensor =>
    reshape(where(present, fill([batch, 1, times, 1], 1), 0), [batch, 1, multiplyDims([times, steps])]);

  const written = linearRecurrence(
    { query, key, value: unit(groups), state: keys },
    { query: groups, key: groups, value: groups },
  );
  const since = linearRecurrence(
    { query: written.output, key: unit(1), value, gate, state: values },
    { query: groups, key: 1, value: count },
  );
  const decayNow = multiply(decay, exp(gate));
  const found = matmul(
    reshape(query, [batch, groups, 1, 1, keySize]),
    reshape(before, [batch, groups, count / groups, keySize, valueSize]),
  );
  const left = multiply(found, reshape(decayNow, [batch, groups, count / groups, 1, 1]));
  return {
    output: add(since.output, reshape(left, value.shape)),
    state: { [`${name}.keys`]: written.state, [`${name}.values`]: since.state, [`${name}.decay`]: decayNow },
  };
}
