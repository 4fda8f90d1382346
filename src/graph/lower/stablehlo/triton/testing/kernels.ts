/** Kernels against what they stand for, both as the evaluator runs them. */
import { expect } from 'vitest';
import type { HostTensor } from '../../../../../engine/index.js';
import { gradient, input, lowerToStableHlo, type Tensor } from '../../../../index.js';
import { relativeError } from '../../../../testing/arrays.js';
import { uniform } from '../../../../testing/random.js';
import { compileText } from '../../../../testing/stablehlo/evaluate.js';
import type { Call } from '../../builder.js';
import type { Precision } from '../../value.js';

/** The outputs of a graph of these leaves, by the calls that may be made, and the program's text. */
export function run(
  outputs: Record<string, Tensor>,
  operands: Readonly<Record<string, HostTensor>>,
  leaves: readonly Tensor[],
  calls: readonly Call[],
  precision: Precision,
  devices = 1,
) {
  const lowered = lowerToStableHlo({
    outputs,
    inputs: leaves,
    states: [],
    lengths: undefined,
    weights: new Map(),
    sizes: () => 0,
    precision,
    calls: new Set(calls),
    ...(devices > 1 && { mesh: { devices, axisOf: () => undefined } }),
  });
  const given = lowered.arguments.map(({ name, element, dims }) => ({
    type: { element, dims },
    data: Float64Array.from(operands[name]!.data as ArrayLike<number | bigint>, Number),
  }));
  return { text: lowered.text, values: compileText(lowered.text).run(given) };
}

/** Errors in norm, of kernels beside what they stand for. */
const TOLERANCE = { float32: 2e-5, bfloat16: 2e-2 };

/**
 * Expects results and their gradients by all float32 leaves to be the same with kernels, which are so many, as without: in float32, or of
 * products in bfloat16 the same as in float32. Two devices compute the same numbers of the halves of a batch.
 */
export function expectSame(
  leaf: Readonly<Record<string, Tensor>>,
  operands: Readonly<Record<string, HostTensor>>,
  results: Readonly<Record<string, Tensor>>,
  kernels: number,
  precision: Precision = 'float32',
): void {
  const smooth = Object.entries(leaf).filter(([, { dtype }]) => dtype === 'float32');
  const seeds = Object.entries(results).map(([name, x]) => input(`seed/${name}`, 'float32', x.shape));
  const fed = { ...operands };
  for (const [i, name] of Object.keys(results).entries())
    fed[`seed/${name}`] = uniform(100 + i, seeds[i]!.shape as number[]);
  const parts = gradient(
    Object.values(results),
    smooth.map(([, x]) => x),
    seeds,
  );
  const outputs = { ...results, ...Object.fromEntries(smooth.map(([name], i) => [`d-${name}`, parts[i]!])) };
  const leaves = [...Object.values(leaf), ...seeds];
  const byKernels = run(outputs, fed, leaves, ['triton'], precision);
  expect(byKernels.text.match(/custom_call/g)).toHaveLength(kernels);
  const plain = run(outputs, fed, leaves, [], 'float32');
  expect(plain.text).not.toContain('custom_call');
  for (const [i, name] of Object.keys(outputs).entries())
    expect(relativeError(byKernels.values[i]!.data, plain.values[i]!.data), name).toBeLessThan(
      TOLERANCE[precision],
    );
  if (Object.values(operands)[0]!.dims[0]! % 2 !== 0) return;
  const byTwo = run(outputs, fed, leaves, ['triton'], precision, 2);
  expect(byTwo.text.match(/manual_computation/g)).toHaveLength(kernels);
  expect(byTwo.values).toEqual(byKernels.values);
}
