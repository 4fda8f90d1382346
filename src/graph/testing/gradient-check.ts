/**
 * The proof that every operator owes: its values equal those of its definition in float64, and its gradient equals
 * the difference quotient of what it computes.
 *
 * An operator's results y_i are projected on random seeds, L = sum_i <y_i, s_i>, and dL/dx is compared with
 *
 *     (8 (L(x+h) - L(x-h)) - (L(x+2h) - L(x-2h))) / 12h
 *
 * for each element of each operand. The fourth-order quotient allows a step so large (1/32) that float32's rounding
 * contributes about 1e-5 and the truncation less. L is summed in float64.
 */

import { expect } from 'vitest';
import { type Device, type DeviceName, type HostTensor, openDevice } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { XlaDevice } from '../../engine/xla/device.js';
import { EvaluatorClient } from '../../engine/xla/testing/evaluator-client.js';
import { isDifferentiable, operators, topologicalOrder } from '../index.js';
import { type NdArray, relativeError, toArray } from './arrays.js';
import { feedsOf, graphOf, type OperatorCase } from './operator-case.js';
import { uniform } from './random.js';

const STEP = 2 ** -5;
const VALUE_TOLERANCE = 1e-5;
const GRADIENT_TOLERANCE = 1e-3;

/** Proves one case of an operator on a device. */
export async function checkOperator(operator: string, proof: OperatorCase, device: Device): Promise<void> {
  const graph = graphOf(proof, isDifferentiable(operators().get(operator)!));
  const built = topologicalOrder(Object.values(graph)).map((node) => node.operator.name);
  expect(built, 'the case builds its operator').toContain(operator);

  const executable = await device.compile(withInputs({ outputs: graph }));
  const feeds = feedsOf(proof);
  const results = await executable.run(feeds);
  const expected = [proof.expected(...proof.operands.map(toArray))].flat() as NdArray[];
  for (const [i, value] of expected.entries()) {
    const actual = toArray(results[`value${i}`]!);
    expect(actual.dims, `shape of result ${i}`).toEqual(value.dims);
    expect(graph[`value${i}`]!.shape, `declared shape of result ${i}`).toEqual(value.dims);
    expect(relativeError(actual.data, value.data), `result ${i}`).toBeLessThan(VALUE_TOLERANCE);
  }

  const projected = async (name: string, operand: HostTensor): Promise<number> => {
    const perturbed = await executable.run({ ...feeds, [name]: operand });
    return projection(perturbed);
  };
  for (const [i, operand] of proof.operands.entries()) {
    const actual = results[`gradient${i}`];
    if (!actual) continue;
    const quotient = await differenceQuotient(operand, (moved) => projected(`operand${i}`, moved));
    expect(actual.dims, `shape of the gradient of operand ${i}`).toEqual(operand.dims);
    const error = relativeError(toArray(actual).data, quotient);
    expect(error, `gradient of operand ${i}`).toBeLessThan(GRADIENT_TOLERANCE);
  }
  await executable.dispose();
}

/** L = sum_i <y_i, s_i> over the float32 results. */
function projection(results: Readonly<Record<string, HostTensor>>): number {
  let sum = 0;
  let smooth = 0;
  for (const [name, { dtype, dims, data }] of Object.entries(results)) {
    if (!name.startsWith('value') || dtype !== 'float32') continue;
    const seed = uniform(1000 + smooth++, dims).data as Float32Array;
    for (const [i, value] of (data as Float32Array).entries()) sum += value * seed[i]!;
  }
  return sum;
}

async function differenceQuotient(
  operand: HostTensor,
  f: (moved: HostTensor) => Promise<number>,
): Promise<Float64Array> {
  const quotient = new Float64Array(operand.data.length);
  for (let i = 0; i < quotient.length; i++) {
    const across = async (distance: number): Promise<number> => {
      const moved = async (step: number): Promise<number> => {
        const data = (operand.data as Float32Array).slice();
        data[i]! += step;
        return await f({ ...operand, data });
      };
      return (await moved(distance)) - (await moved(-distance));
    };
    quotient[i] = (8 * (await across(STEP)) - (await across(2 * STEP))) / (12 * STEP);
  }
  return quotient;
}

const devices = new Map<DeviceName, Promise<Device>>();

/** ONNX Runtime's CPU with one thread: these graphs are far too small for more. */
export function cpu(): Promise<Device> {
  return opened('cpu', 1);
}

/** Kernels of our own, with two threads: what they do together is to be proved too. */
export function wasm(): Promise<Device> {
  return opened('wasm', 2);
}

/** StableHLO, evaluated on this machine: a proof of what is printed for XLA. */
export async function stablehlo(): Promise<Device> {
  return new XlaDevice(new EvaluatorClient(), { precision: 'float32' });
}

function opened(name: DeviceName, threads: number): Promise<Device> {
  const device = devices.get(name) ?? openDevice(name, { threads });
  devices.set(name, device);
  return device;
}
