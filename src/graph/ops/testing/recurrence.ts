/**
 * The gated linear recurrence and its gradient in float64: one loop forward through time, which keeps every state, and
 * one back, which carries G = dL/dS. It is independent of the operator's chunked form.
 */
import { float32, type HostTensor } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { NdArray, tabulate, toArray, total } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { GRID, uniform } from '../../testing/random.js';
import { linearRecurrence } from '../recurrence.js';

/** Sizes of a linear recurrence. */
export interface Sizes {
  /** Heads of queries, keys and values: the first two divide the last. */
  readonly heads: { readonly query: number; readonly key: number; readonly value: number };
  readonly keySize: number;
  readonly valueSize: number;
}

/** The kind of decay: none, one per head, or one per row of the state. */
export type Gating = 'none' | 'head' | 'row';

/** Operands of a linear recurrence, as the operator takes them. */
export interface Operands {
  readonly query: HostTensor;
  readonly key: HostTensor;
  readonly value: HostTensor;
  readonly gate?: HostTensor;
  readonly state?: HostTensor;
  readonly beta?: HostTensor;
}

/** What a linear recurrence returns. */
export type Result = 'output' | 'finalState';

/** The optional operands. */
export interface Options {
  readonly gating: Gating;
  readonly withState: boolean;
  /** The delta rule, with rates up to 2. */
  readonly delta?: boolean;
}

/** Random operands with decays between exp(-1) and 1; under the delta rule the keys have length 1, as it expects. */
export function recurrenceOperands(
  { heads, keySize, valueSize }: Sizes,
  [batch, sequence]: readonly [number, number],
  { gating, withState, delta }: Options,
): Operands {
  const gates = { none: 0, head: heads.value, row: heads.value * keySize }[gating];
  const key = uniform(12, [batch, sequence, heads.key * keySize]);
  return {
    query: uniform(11, [batch, sequence, heads.query * keySize]),
    key: delta ? unitLength(key, keySize) : key,
    value: uniform(13, [batch, sequence, heads.value * valueSize]),
    ...(gates > 0 && { gate: uniform(14, [batch, sequence, gates], -1, 0) }),
    ...(withState && { state: uniform(15, [batch, heads.value, keySize, valueSize]) }),
    ...(delta && { beta: uniform(16, [batch, sequence, heads.value], 0, 2) }),
  };
}

/** Scales each group of `size` numbers to length 1 (as exactly as the grid allows), so that beta = 2 is a reflection. */
function unitLength({ data, dims }: HostTensor, size: number): HostTensor {
  const scaled = Float32Array.from(data as Float32Array, (value, i) => {
    const start = i - (i % size);
    const length = Math.hypot(...(data as Float32Array).subarray(start, start + size));
    return Math.round(value / length / GRID) * GRID;
  });
  return float32(scaled, dims);
}

/** The recurrence and, for dL/d(output) and dL/d(final state), its gradient: `d-query` and so on. */
export function referenceRecurrence(
  { heads, keySize, valueSize }: Sizes,
  operands: Operands,
  seeds: Readonly<Record<Result, ArrayLike<number>>>,
): Record<Result | `d-${keyof Operands}`, Float64Array> {
  const [batch, sequence] = operands.query.dims as [number, number];
  const query = toArray(operands.query).data;
  const key = toArray(operands.key).data;
  const value = toArray(operands.value).data;
  const gate = operands.gate && toArray(operands.gate).data;
  const beta = operands.beta && toArray(operands.beta).data;
  const area = keySize * valueSize;
  const output = new Float64Array(batch * sequence * heads.value * valueSize);
  const finalState = new Float64Array(batch * heads.value * area);
  if (operands.state) finalState.set(toArray(operands.state).data);
  const gradients = {
    query: new Float64Array(query.length),
    key: new Float64Array(key.length),
    value: new Float64Array(value.length),
    gate: new Float64Array(gate?.length ?? 0),
    state: new Float64Array(finalState.length),
    beta: new Float64Array(beta?.length ?? 0),
  };
  /** sum_i x[at + i] * M[i, j] */
  const readOut = (M: Float64Array, x: Float64Array, at: number, j: number): number =>
    total(keySize, (i) => x[at + i]! * M[i * valueSize + j]!);

  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads.value; h++) {
      const from = (b * heads.value + h) * area;
      const S = finalState.subarray(from, from + area);
      // The offset of a head's part of a packed operand at a step; value heads share query and key heads.
      const at = (t: number, count: number, size: number): number =>
        ((b * sequence + t) * count + Math.floor((h * count) / heads.value)) * size;
      const places = (t: number) => ({
        q: at(t, heads.query, keySize),
        k: at(t, heads.key, keySize),
        v: at(t, heads.value, valueSize),
        rate: at(t, heads.value, 1),
      });
      const gateAt = (t: number, k: number): number =>
        gate!.length === batch * sequence * heads.value
          ? at(t, heads.value, 1)
          : at(t, heads.value, keySize) + k;
      const decay = (t: number, k: number): number => (gate ? Math.exp(gate[gateAt(t, k)]!) : 1);

      // For each step: the state before it, after its decay and after its write, the retrieved value, and the written value.
      const history: Record<'before' | 'decayed' | 'after' | 'found' | 'written', Float64Array>[] = [];
      for (let t = 0; t < sequence; t++) {
        const { q, k, v, rate } = places(t);
        const before = S.slice();
        for (let place = 0; place < area; place++) S[place]! *= decay(t, Math.floor(place / valueSize));
        const decayed = S.slice();
        const found = new Float64Array(valueSize);
        const written = new Float64Array(valueSize);
        for (let j = 0; j < valueSize; j++) {
          found[j] = readOut(decayed, key, k, j);
          written[j] = beta ? beta[rate]! * (value[v + j]! - found[j]!) : value[v + j]!;
          for (let i = 0; i < keySize; i++) S[i * valueSize + j]! += key[k + i]! * written[j]!;
          output[v + j] = readOut(S, query, q, j);
        }
        history.push({ before, decayed, after: S.slice(), found, written });
      }

      const G = Float64Array.from({ length: area }, (_, i) => seeds.finalState[from + i]!);
      for (let t = sequence - 1; t >= 0; t--) {
        const { before, decayed, after, found, written } = history[t]!;
        const { q, k, v, rate } = places(t);
        for (let i = 0; i < keySize; i++) {
          for (let j = 0; j < valueSize; j++) {
            const place = i * valueSize + j;
            G[place]! += query[q + i]! * seeds.output[v + j]!;
            gradients.query[q + i]! += after[place]! * seeds.output[v + j]!;
            gradients.key[k + i]! += G[place]! * written[j]!;
          }
        }
        for (let j = 0; j < valueSize; j++) {
          const dWritten = readOut(G, key, k, j);
          gradients.value[v + j]! += (beta ? beta[rate]! : 1) * dWritten;
          if (!beta) continue;
          gradients.beta[rate]! += dWritten * (value[v + j]! - found[j]!);
          const dFound = -beta[rate]! * dWritten;
          for (let i = 0; i < keySize; i++) {
            gradients.key[k + i]! += decayed[i * valueSize + j]! * dFound;
            G[i * valueSize + j]! += key[k + i]! * dFound;
          }
        }
        for (let i = 0; i < keySize; i++) {
          for (let j = 0; j < valueSize; j++) {
            const place = i * valueSize + j;
            const held = G[place]! * decay(t, i);
            if (gate) gradients.gate[gateAt(t, i)]! += held * before[place]!;
            G[place] = held;
          }
        }
      }
      gradients.state.set(G, from);
    }
  }
  return {
    output,
    finalState,
    'd-query': gradients.query,
    'd-key': gradients.key,
    'd-value': gradients.value,
    'd-gate': gradients.gate,
    'd-state': gradients.state,
    'd-beta': gradients.beta,
  };
}

/** Steps `start` to `end - 1` of [batch, sequence, size]. */
export function steps(x: HostTensor, start: number, end: number): HostTensor {
  const [batch, , size] = x.dims as [number, number, number];
  const source = toArray(x);
  const piece = tabulate([batch, end - start, size], (b, t, i) => source.at(b, start + t, i));
  return float32(piece.data, piece.dims);
}

const SMALL: Sizes = { heads: { query: 1, key: 2, value: 4 }, keySize: 3, valueSize: 2 };

/** The recurrence with separate erase keys: S = D + k v^T - r (D^T f)^T, without gradient. */
export function referenceErase(
  { heads, keySize, valueSize }: Sizes,
  { gate, state, ...operands }: Operands,
  find: HostTensor,
  remove: HostTensor,
): Record<Result, NdArray> {
  const [query, key, value, f, r] = [operands.query, operands.key, operands.value, find, remove].map(
    toArray,
  ) as [NdArray, NdArray, NdArray, NdArray, NdArray];
  const [batch, sequence] = query.dims as [number, number];
  const gates = gate && toArray(gate);
  const output = new NdArray(value.dims, new Float64Array(value.data.length));
  const area = keySize * valueSize;
  const finalState = new Float64Array(batch * heads.value * area);
  if (state) finalState.set(toArray(state).data);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads.value; h++) {
      const S = finalState.subarray((b * heads.value + h) * area, (b * heads.value + h + 1) * area);
      const shared = (count: number): number => Math.floor((h * count) / heads.value) * keySize;
      for (let t = 0; t < sequence; t++) {
        for (let place = 0; place < area && gates; place++) {
          const i = Math.floor(place / valueSize);
          S[place]! *= Math.exp(gates.at(b, t, gates.dims[2] === heads.value ? h : h * keySize + i));
        }
        for (let j = 0; j < valueSize; j++) {
          const found = total(keySize, (i) => f.at(b, t, shared(heads.key) + i) * S[i * valueSize + j]!);
          for (let i = 0; i < keySize; i++) {
            const k = key.at(b, t, shared(heads.key) + i) * value.at(b, t, h * valueSize + j);
            S[i * valueSize + j]! += k - r.at(b, t, shared(heads.key) + i) * found;
          }
          output.data[(b * sequence + t) * heads.value * valueSize + h * valueSize + j] = total(
            keySize,
            (i) => query.at(b, t, shared(heads.query) + i) * S[i * valueSize + j]!,
          );
        }
      }
    }
  }
  return { output, finalState: new NdArray([batch, heads.value, keySize, valueSize], finalState) };
}

/** Erase keys, small enough that the state stays bounded. */
export function eraseOperands({ heads, keySize }: Sizes, [batch, sequence]: readonly [number, number]) {
  const dims = [batch, sequence, heads.key * keySize];
  return { find: uniform(17, dims, -0.5, 0.5), remove: uniform(18, dims, -0.5, 0.5) };
}

const eraseCases = (['none', 'head', 'row'] as const).map((gating) => {
  const operands = recurrenceOperands(SMALL, [2, 3], { gating, withState: true });
  const { find, remove } = eraseOperands(SMALL, [2, 3]);
  const given = Object.keys(operands) as (keyof Operands)[];
  return {
    name: `decay of ${gating}, erased under keys of its own`,
    operands: [...given.map((name) => operands[name]!), find, remove],
    build(...leaves: Tensor[]) {
      const named = Object.fromEntries(given.map((name, i) => [name, leaves[i]!]));
      const [find, remove] = leaves.slice(-2) as [Tensor, Tensor];
      const results = linearRecurrence(
        { ...(named as Record<keyof Operands, Tensor>), erase: { find, remove } },
        SMALL.heads,
      );
      return [results.output, results.state];
    },
    expected() {
      const { output, finalState } = referenceErase(SMALL, operands, find, remove);
      return [output, finalState];
    },
  };
});

/** Cases of the operator in recurrence.ts. */
export const recurrenceCases: CaseTable = {
  linearRecurrence: [false, true]
    .flatMap((delta) =>
      (['none', 'head', 'row'] as const).map((gating) => {
        const operands = recurrenceOperands(SMALL, [2, 3], { gating, withState: true, delta });
        const given = Object.keys(operands) as (keyof Operands)[];
        return {
          name: `decay of ${gating}${delta ? ', delta rule' : ''}, [2,3] tokens`,
          operands: given.map((name) => operands[name]!),
          build(...leaves: Tensor[]) {
            const named = Object.fromEntries(given.map((name, i) => [name, leaves[i]!]));
            const results = linearRecurrence(named as Record<keyof Operands, Tensor>, SMALL.heads);
            return [results.output, results.state];
          },
          expected() {
            const zeros = new Float64Array(48);
            const { output, finalState } = referenceRecurrence(SMALL, operands, {
              output: zeros,
              finalState: zeros,
            });
            return [new NdArray([2, 3, 8], output), new NdArray([2, 4, 3, 2], finalState)];
          },
        };
      }),
    )
    .concat(eraseCases),
};
