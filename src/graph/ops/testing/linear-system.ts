/** Cases for linear time-invariant systems: their definitions in float64, step by step. */
import { NdArray } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { channelSystem, stateSystem } from '../linear-system.js';

/** Output and final state of a system for each channel. */
export function referenceChannels(
  input: NdArray,
  transition: NdArray,
  readout: NdArray,
  state?: NdArray,
): [NdArray, NdArray] {
  const [batch, sequence, channels] = input.dims as [number, number, number];
  const [parts, , size] = transition.dims as [number, number, number];
  const output = new Float64Array(batch * sequence * channels);
  const last = new NdArray([batch, parts, channels, size], new Float64Array(batch * parts * channels * size));
  if (state) last.data.set(state.data);
  const imaginary = (x: NdArray, c: number, n: number): number => (parts === 2 ? x.at(1, c, n) : 0);
  for (let b = 0; b < batch; b++) {
    for (let c = 0; c < channels; c++) {
      for (let n = 0; n < size; n++) {
        const place = (part: number): number => ((b * parts + part) * channels + c) * size + n;
        let [re, im] = [last.data[place(0)]!, parts === 2 ? last.data[place(1)]! : 0];
        for (let t = 0; t < sequence; t++) {
          const [aRe, aIm] = [transition.at(0, c, n), imaginary(transition, c, n)];
          [re, im] = [aRe * re - aIm * im + input.at(b, t, c), aRe * im + aIm * re];
          output[(b * sequence + t) * channels + c]! +=
            readout.at(0, c, n) * re - imaginary(readout, c, n) * im;
        }
        last.data[place(0)] = re;
        if (parts === 2) last.data[place(1)] = im;
      }
    }
  }
  return [new NdArray(input.dims, output), last];
}

/** All states and the last of one system. */
export function referenceStates(input: NdArray, transition: NdArray, state?: NdArray): [NdArray, NdArray] {
  const [batch, sequence, size] = input.dims as [number, number, number];
  const states = new Float64Array(batch * sequence * size);
  const last = new Float64Array(batch * size);
  if (state) last.set(state.data);
  for (let b = 0; b < batch; b++) {
    let h = last.slice(b * size, (b + 1) * size);
    for (let t = 0; t < sequence; t++) {
      h = h.map((_, i) => h.reduce((sum, value, j) => sum + transition.at(i, j) * value, input.at(b, t, i)));
      states.set(h, (b * sequence + t) * size);
    }
    last.set(h, b * size);
  }
  return [new NdArray(input.dims, states), new NdArray([batch, size], last)];
}

const channelCase = (parts: 1 | 2, sequence: number, withState: boolean) => ({
  name: `${parts === 2 ? 'complex' : 'real'}, ${sequence} steps${withState ? ' from a state' : ''}`,
  operands: [
    uniform(1, [2, sequence, 3]),
    uniform(2, [parts, 3, 2], -0.5, 0.5),
    uniform(3, [parts, 3, 2]),
    ...(withState ? [uniform(4, [2, parts, 3, 2])] : []),
  ],
  build(...[input, transition, readout, state]: Parameters<typeof stateSystem>[0][]) {
    const system = channelSystem({
      input: input!,
      transition: transition!,
      readout: readout!,
      state,
    });
    return [system.output, system.state];
  },
  expected: (...[input, transition, readout, state]: NdArray[]) =>
    referenceChannels(input!, transition!, readout!, state),
});

const stateCase = (sequence: number, withState: boolean) => ({
  name: `${sequence} steps${withState ? ' from a state' : ''}`,
  operands: [
    uniform(1, [2, sequence, 3]),
    uniform(2, [3, 3], -0.5, 0.5),
    ...(withState ? [uniform(3, [2, 3])] : []),
  ],
  build(...[input, transition, state]: Parameters<typeof stateSystem>[0][]) {
    const system = stateSystem(input!, transition!, state);
    return [system.states, system.state];
  },
  expected: (...[input, transition, state]: NdArray[]) => referenceStates(input!, transition!, state),
});

/** Cases of the operators in linear-system.ts. */
export const linearSystemCases: CaseTable = {
  channelSystem: [
    channelCase(2, 5, true),
    channelCase(2, 4, false),
    channelCase(1, 3, true),
    channelCase(1, 1, false),
  ],
  stateSystem: [stateCase(5, true), stateCase(4, false), stateCase(1, true)],
};
