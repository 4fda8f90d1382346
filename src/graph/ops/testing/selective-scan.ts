/**
 * The selective scan and its gradient in float64: one loop forward through time, which keeps every state, and one back,
 * which carries dL/dh. It is independent of the sums by which the operator avoids storing states.
 */
import type { HostTensor } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { NdArray, toArray } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { type ScanInputs, selectiveScan } from '../selective-scan.js';

/** Sizes of a selective scan: channels, and the state size per channel. */
export interface ScanSizes {
  readonly width: number;
  readonly size: number;
}

type OperandName = Exclude<keyof ScanInputs, 'documents'>;
/** Operands of a selective scan, by name. */
export type ScanOperands = Readonly<Record<OperandName, HostTensor>>;
/** What a selective scan returns. */
export type ScanResult = 'output' | 'finalState';

/** Random operands whose decays in one step lie between exp(-2) and 1. */
export function scanOperands({ width, size }: ScanSizes, batch: number, sequence: number): ScanOperands {
  return {
    value: uniform(21, [batch, sequence, width]),
    step: uniform(22, [batch, sequence, width], 0.25, 1),
    rate: uniform(23, [width, size], -2, 0),
    key: uniform(24, [batch, sequence, size]),
    query: uniform(25, [batch, sequence, size]),
    state: uniform(26, [batch, size, width]),
  };
}

/** The scan and, for dL/d(output) and dL/d(final state), its gradient: `d-value` and so on. */
export function referenceScan(
  { width, size }: ScanSizes,
  operands: ScanOperands,
  seeds: Readonly<Record<ScanResult, ArrayLike<number>>>,
): Record<ScanResult | `d-${OperandName}`, Float64Array> {
  const [batch, sequence] = operands.value.dims as [number, number];
  const data = (name: OperandName): Float64Array => toArray(operands[name]).data;
  const [value, step, rate, key, query] = [
    data('value'),
    data('step'),
    data('rate'),
    data('key'),
    data('query'),
  ];
  const output = new Float64Array(value.length);
  const finalState = data('state').slice();
  const gradients = {
    value: new Float64Array(value.length),
    step: new Float64Array(step.length),
    rate: new Float64Array(rate.length),
    key: new Float64Array(key.length),
    query: new Float64Array(query.length),
    state: Float64Array.from(seeds.finalState),
  };
  for (let b = 0; b < batch; b++) {
    for (let d = 0; d < width; d++) {
      for (let n = 0; n < size; n++) {
        const place = (b * size + n) * width + d;
        const A = rate[d * size + n]!;
        // The offsets of this channel's and this state dimension's operands at a step.
        const channel = (t: number): number => (b * sequence + t) * width + d;
        const number = (t: number): number => (b * sequence + t) * size + n;
        const states = [finalState[place]!];
        for (let t = 0; t < sequence; t++) {
          const held = Math.exp(step[channel(t)]! * A) * states[t]!;
          states.push(held + key[number(t)]! * value[channel(t)]!);
          output[channel(t)]! += query[number(t)]! * states[t + 1]!;
        }
        finalState[place] = states[sequence]!;
        let G = seeds.finalState[place]!;
        for (let t = sequence - 1; t >= 0; t--) {
          const decay = Math.exp(step[channel(t)]! * A);
          G += query[number(t)]! * seeds.output[channel(t)]!;
          gradients.query[number(t)]! += states[t + 1]! * seeds.output[channel(t)]!;
          gradients.key[number(t)]! += G * value[channel(t)]!;
          gradients.value[channel(t)]! += G * key[number(t)]!;
          gradients.step[channel(t)]! += G * decay * states[t]! * A;
          gradients.rate[d * size + n]! += G * decay * states[t]! * step[channel(t)]!;
          G *= decay;
        }
        gradients.state[place] = G;
      }
    }
  }
  return {
    output,
    finalState,
    'd-value': gradients.value,
    'd-step': gradients.step,
    'd-rate': gradients.rate,
    'd-key': gradients.key,
    'd-query': gradients.query,
    'd-state': gradients.state,
  };
}

/** The names of the operands, in the operator's order. */
export const SCAN_OPERANDS = ['value', 'step', 'rate', 'key', 'query', 'state'] as const;

/** Cases of the operator in selective-scan.ts. */
export const selectiveScanCases: CaseTable = {
  selectiveScan: [true, false].map((withState) => {
    const sizes = { width: 3, size: 2 };
    const operands = scanOperands(sizes, 2, 4);
    const given = withState ? SCAN_OPERANDS : SCAN_OPERANDS.slice(0, -1);
    return {
      name: withState ? 'from a state' : 'from zero',
      operands: given.map((name) => operands[name]),
      build(...leaves: Tensor[]) {
        const named = Object.fromEntries(given.map((name, i) => [name, leaves[i]!]));
        const { output, state } = selectiveScan(named as Record<OperandName, Tensor>);
        return [output, state];
      },
      expected() {
        const none = new Float64Array(2 * 4 * 3);
        const state = withState ? operands.state : uniform(1, [2, 2, 3], 0, 0);
        const results = referenceScan(sizes, { ...operands, state }, { output: none, finalState: none });
        return [new NdArray([2, 4, 3], results.output), new NdArray([2, 2, 3], results.finalState)];
      },
    };
  }),
};
