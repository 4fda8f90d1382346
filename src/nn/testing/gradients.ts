/**
 * The proof that a layer's gradient is that of what it computes. The output is projected on a random seed, L = <y, s>,
 * and dL/d(parameter) and dL/dx are compared, element by element, with the difference quotient
 *
 *     (8 (L(x+h) - L(x-h)) - (L(x+2h) - L(x-2h))) / 12h
 *
 * of fourth order, whose step is so large that float32's rounding does not matter. L is summed in float64.
 */

import { expect } from 'vitest';
import type { Device, HostTensor } from '../../engine/index.js';
import { only, withInputs } from '../../engine/testing/with-inputs.js';
import { constant, gradient, input, type Tensor } from '../../graph/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry, type Parameters } from '../parameters.js';
import { randomWeights } from './weights.js';

const STEP = 2 ** -5;
const TOLERANCE = 1e-3;

/** What gradients are compared with differences for. */
export interface GradientOptions {
  /** Those that are differentiated; integers are only fed. */
  inputs: Readonly<Record<string, HostTensor>>;
  /** Values of some parameters by name; the others are random. */
  weights?: Readonly<Record<string, readonly number[]>>;
  /** Statistics that are made anew, as in training. */
  renews?: ReadonlySet<string>;
}

/** Checks all gradients of what `build` makes of its parameters and inputs, and returns them by name. */
export async function checkGradients(
  device: Device,
  build: (parameters: Parameters, inputs: Readonly<Record<string, Tensor>>) => Tensor,
  options: GradientOptions,
): Promise<Map<string, Float32Array>> {
  const registry = new ParameterRegistry(options.renews);
  const leaves = Object.fromEntries(
    Object.entries(options.inputs).map(([name, { dtype, dims }]) => [name, input(name, dtype, dims)]),
  );
  const y = build(registry.root(), leaves);
  const feeds: Record<string, HostTensor> = {
    ...options.inputs,
    ...Object.fromEntries(
      randomWeights(registry.specs.values(), { deviation: 0.5, given: options.weights ?? {} }),
    ),
  };
  const wanted = new Map([...registry.tensors, ...Object.entries(leaves)]);
  for (const [name, { dtype }] of wanted) {
    if (dtype !== 'float32' || registry.isRenewed(name)) wanted.delete(name);
  }

  const seed = uniform(77, y.shape as number[]).data as Float32Array;
  const parts = gradient([y], [...wanted.values()], [constant(seed, y.shape as number[])]);
  const gradientsProgram = withInputs({
    outputs: Object.fromEntries([...wanted.keys()].map((name, i) => [`d ${name}`, parts[i]!])),
  });
  const gradients = await device.compile(gradientsProgram);
  const analytic = await gradients.run(only(gradientsProgram, feeds));
  const valuesProgram = withInputs({ outputs: { y } });
  const values = await device.compile(valuesProgram);

  const projected = async (moved: Readonly<Record<string, HostTensor>>): Promise<number> => {
    const result = (await values.run({ ...only(valuesProgram, feeds), ...moved })).y!.data as Float32Array;
    return result.reduce((sum, value, i) => sum + value * seed[i]!, 0);
  };
  const found = new Map<string, Float32Array>();
  for (const name of wanted.keys()) {
    const operand = feeds[name]!;
    const quotient = new Float64Array(operand.data.length);
    for (let i = 0; i < quotient.length; i++) {
      const at = (distance: number): Promise<number> => {
        const data = (operand.data as Float32Array).slice();
        data[i]! += distance;
        return projected({ [name]: { ...operand, data } });
      };
      const near = (await at(STEP)) - (await at(-STEP));
      const far = (await at(2 * STEP)) - (await at(-2 * STEP));
      quotient[i] = (8 * near - far) / (12 * STEP);
    }
    const actual = analytic[`d ${name}`]!.data as Float32Array;
    expect(relativeError(actual, quotient), `gradient of ${name}`).toBeLessThanOrEqual(TOLERANCE);
    found.set(name, actual);
  }
  await gradients.dispose();
  await values.dispose();
  return found;
}
