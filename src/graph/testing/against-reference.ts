/** Compares an operator's results and gradients, computed in one program, with a reference that loops in float64. */

import { expect } from 'vitest';
import type { Executable, HostTensor } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { gradient, input, type Tensor } from '../index.js';
import { relativeError } from './arrays.js';
import { cpu } from './gradient-check.js';
import { uniform } from './random.js';

/**
 * A program with `results` and, named `d-x` for an operand x, the gradients of sum <result, seed> over the results that
 * `through` names. The seeds are fed as `resultGradient`.
 */
export async function compileWithGradients(
  operands: Readonly<Record<string, Tensor>>,
  results: Readonly<Record<string, Tensor>>,
  through: readonly string[] = Object.keys(results),
): Promise<Executable> {
  const parts = gradient(
    through.map((name) => results[name]!),
    Object.values(operands),
    through.map((name) => input(`${name}Gradient`, 'float32', results[name]!.shape)),
  );
  const outputs: Record<string, Tensor> = { ...results };
  for (const [i, name] of Object.keys(operands).entries()) outputs[`d-${name}`] = parts[i]!;
  return (await cpu()).compile(withInputs({ outputs }));
}

/** A seed for each result: random for those in `through`, zero for the others. */
export function seedsFor<Result extends string>(
  dims: Readonly<Record<Result, readonly number[]>>,
  through: readonly Result[],
): { feeds: Record<string, HostTensor>; values: Record<Result, Float32Array> } {
  const feeds: Record<string, HostTensor> = {};
  const values = {} as Record<Result, Float32Array>;
  for (const [i, name] of (Object.keys(dims) as Result[]).entries()) {
    const seed = uniform(31 + i, dims[name]);
    const used = through.includes(name);
    if (used) feeds[`${name}Gradient`] = seed;
    values[name] = used ? (seed.data as Float32Array) : new Float32Array(seed.data.length);
  }
  return { feeds, values };
}

/** Runs a program and expects every output to be what the reference says, to `tolerance` in norm. */
export async function expectReference(
  executable: Executable,
  feeds: Readonly<Record<string, HostTensor>>,
  reference: Readonly<Record<string, Float64Array>>,
  tolerance: number,
): Promise<void> {
  for (const [name, { dims, data }] of Object.entries(await executable.run(feeds))) {
    const error = relativeError(data as Float32Array, reference[name]!);
    expect(error, `${name} [${dims}]`).toBeLessThan(tolerance);
  }
}
