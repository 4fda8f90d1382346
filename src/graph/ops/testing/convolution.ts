/** The causal convolution and its gradient in float64: explicit loops over tokens and taps. */
import type { HostTensor } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { NdArray, toArray } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { causalConvolution } from '../convolution.js';

/** Sizes of a causal convolution; `width` is that of its kernel. */
export interface Sizes {
  readonly batch: number;
  readonly sequence: number;
  readonly channels: number;
  readonly width: number;
}

/** Operands of a causal convolution, as the operator takes them. */
export interface Operands {
  readonly x: HostTensor;
  readonly weight: HostTensor;
  readonly bias?: HostTensor;
  readonly state?: HostTensor;
}

/** What a causal convolution returns. */
export type Result = 'output' | 'finalState';

/** Random operands of a causal convolution. */
export function convolutionOperands(
  { batch, sequence, channels, width }: Sizes,
  withBias: boolean,
  withState: boolean,
): Operands {
  return {
    x: uniform(21, [batch, sequence, channels]),
    weight: uniform(22, [channels, 1, width]),
    ...(withBias && { bias: uniform(23, [channels]) }),
    ...(withState && { state: uniform(24, [batch, width - 1, channels]) }),
  };
}

/** The convolution and, for dL/d(output) and dL/d(final state), its gradient: `d-weight` and so on. */
export function referenceConvolution(
  { batch, sequence, channels, width }: Sizes,
  operands: Operands,
  seeds: Readonly<Record<Result, ArrayLike<number>>>,
): Record<Result | `d-${keyof Operands}`, Float64Array> {
  const past = width - 1;
  const x = toArray(operands.x);
  const weight = toArray(operands.weight);
  const bias = operands.bias && toArray(operands.bias);
  const state = operands.state && toArray(operands.state);
  const output = new Float64Array(x.data.length);
  const finalState = new Float64Array(batch * past * channels);
  const gradients = {
    x: new Float64Array(x.data.length),
    weight: new Float64Array(weight.data.length),
    bias: new Float64Array(channels),
    state: new Float64Array(finalState.length),
  };
  for (let b = 0; b < batch; b++) {
    for (let c = 0; c < channels; c++) {
      const inSequence = (t: number): number => (b * sequence + t) * channels + c;
      const inState = (t: number): number => (b * past + t) * channels + c;
      /** The input at step t, which is before the sequence where t < 0. */
      const input = (t: number): number =>
        t >= 0 ? x.data[inSequence(t)]! : (state?.data[inState(t + past)] ?? 0);
      const addToInput = (t: number, part: number): void => {
        if (t >= 0) gradients.x[inSequence(t)]! += part;
        else gradients.state[inState(t + past)]! += part;
      };
      for (let t = 0; t < sequence; t++) {
        const g = seeds.output[inSequence(t)]!;
        gradients.bias[c]! += g;
        output[inSequence(t)] = bias?.at(c) ?? 0;
        for (let tap = 0; tap < width; tap++) {
          const source = t - past + tap;
          output[inSequence(t)]! += weight.at(c, 0, tap) * input(source);
          gradients.weight[c * width + tap]! += g * input(source);
          addToInput(source, g * weight.at(c, 0, tap));
        }
      }
      for (let t = 0; t < past; t++) {
        finalState[inState(t)] = input(sequence - past + t);
        addToInput(sequence - past + t, seeds.finalState[inState(t)]!);
      }
    }
  }
  return {
    output,
    finalState,
    'd-x': gradients.x,
    'd-weight': gradients.weight,
    'd-bias': gradients.bias,
    'd-state': gradients.state,
  };
}

const CASES = [3, 1].flatMap((sequence) =>
  [true, false].map((full) => ({ sizes: { batch: 2, sequence, channels: 2, width: 3 }, full })),
);

/** Cases of the operators in convolution.ts. */
export const convolutionCases: CaseTable = {
  causalConvolution: CASES.map(({ sizes, full }) => {
    const { batch, sequence, channels, width } = sizes;
    const { x, weight, bias, state } = convolutionOperands(sizes, full, full);
    return {
      name: `[2,${sequence},2] by width 3${full ? ', with bias and state' : ''}`,
      operands: full ? [x, weight, bias!, state!] : [x, weight],
      build(...[input, taps, offset, past]: Tensor[]) {
        const results = causalConvolution(input!, taps!, offset, past);
        return [results.output, results.state];
      },
      expected() {
        const operands = convolutionOperands(sizes, full, full);
        const zeros = new Float64Array(batch * width * channels);
        const { output, finalState } = referenceConvolution(sizes, operands, {
          output: zeros,
          finalState: zeros,
        });
        return [
          new NdArray([batch, sequence, channels], output),
          new NdArray([batch, width - 1, channels], finalState),
        ];
      },
    };
  }),
};
