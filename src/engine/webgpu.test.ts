/**
 * The webgpu device gives what the cpu device gives. Without a GPU these tests run in software, on the Vulkan driver that
 * Debian's chromium brings (with libvulkan1): `VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json`.
 */

import { describe, expect, test } from 'vitest';
import { DeviceError } from '../errors.js';
import {
  add,
  causalConvolution,
  crossEntropy,
  exp,
  gather,
  gradient,
  input,
  isDifferentiable,
  linearRecurrence,
  matmul,
  mean,
  multiply,
  negate,
  operators,
  reshape,
  rmsNorm,
  silu,
  softplus,
  split,
  type Tensor,
} from '../graph/index.js';
import { casesOf } from '../graph/ops/testing/index.js';
import { relativeError, toArray } from '../graph/testing/arrays.js';
import { cpu } from '../graph/testing/gradient-check.js';
import { feedsOf, graphOf } from '../graph/testing/operator-case.js';
import { uniform } from '../graph/testing/random.js';
import { type Device, type HostTensor, int64, openDevice, type State } from './index.js';
import { withInputs } from './testing/with-inputs.js';

const opened = await openDevice('webgpu').catch((error: unknown) => error);

// The summary does not print why a test was skipped.
if (opened instanceof Error) console.warn(`The webgpu tests are skipped: ${opened.message}`);

/** A test that is skipped, with the reason, where the device cannot be opened. */
function onWebGpu(name: string, body: (device: Device) => Promise<void>): void {
  test(name, async ({ skip }) => {
    if (opened instanceof Error) skip(opened.message);
    else await body(opened as Device);
  });
}

test.runIf(opened instanceof Error)('a machine without an adapter is told so', () => {
  expect(opened).toBeInstanceOf(DeviceError);
  expect((opened as DeviceError).message).toMatch(/^this machine has no WebGPU adapter: use the cpu device/);
});

/** Compiles for both devices and compares what they return for each set of feeds. */
async function expectEqual(
  device: Device,
  outputs: Readonly<Record<string, Tensor>>,
  ...runs: readonly Readonly<Record<string, HostTensor>>[]
): Promise<void> {
  const expected = await (await cpu()).compile(withInputs({ outputs }));
  const actual = await device.compile(withInputs({ outputs }));
  for (const feeds of runs) {
    const values = await actual.run(feeds);
    for (const [name, value] of Object.entries(await expected.run(feeds))) {
      expect(values[name]!.dims).toEqual(value.dims);
      expect(relativeError(toArray(values[name]!).data, toArray(value).data), name).toBeLessThan(1e-3);
    }
  }
  await expected.dispose();
  await actual.dispose();
}

describe('operators', () => {
  for (const [name, operator] of operators()) {
    const [proof] = casesOf(name);
    if (!proof) continue;
    const graph = graphOf(proof, isDifferentiable(operator));
    onWebGpu(name, (device) => expectEqual(device, graph, feedsOf(proof)));
  }
});

describe('a layer, its loss and its gradients', () => {
  const VOCABULARY = 11;
  const HIDDEN = 8;
  const HEADS = 2;
  const STATE = 4;
  const WIDTHS = [HIDDEN, STATE, STATE, HEADS];
  const PROJECTED = WIDTHS.reduce((a, b) => a + b, 0);

  const parameters = {
    embedding: [VOCABULARY, HIDDEN],
    norm: [HIDDEN],
    projection: [HIDDEN, PROJECTED],
    convolution: [PROJECTED - HEADS, 1, 4],
    bias: [PROJECTED - HEADS],
    decay: [HEADS],
    output: [HIDDEN, HIDDEN],
  };

  /** Mamba-2 in small: [batch, sequence] tokens to the mean loss of the tokens that follow. */
  function program(): Record<string, Tensor> {
    const leaves = Object.fromEntries(
      Object.entries(parameters).map(([name, dims]) => [name, input(name, 'float32', dims)]),
    ) as Record<keyof typeof parameters, Tensor>;
    const hidden = gather(leaves.embedding, input('tokens', 'int64', ['batch', 'sequence']));
    const projected = matmul(rmsNorm(hidden, leaves.norm, 1e-5), leaves.projection);
    const [mixed, dt] = split(projected, 2, [PROJECTED - HEADS, HEADS]) as [Tensor, Tensor];
    const convolved = silu(causalConvolution(mixed, leaves.convolution, leaves.bias).output);
    const [value, key, query] = split(convolved, 2, WIDTHS.slice(0, 3)) as [Tensor, Tensor, Tensor];
    const gate = negate(multiply(softplus(dt), exp(leaves.decay)));
    const recurrence = linearRecurrence({ query, key, value, gate }, { query: 1, key: 1, value: HEADS });
    const y = add(hidden, matmul(recurrence.output, leaves.output));
    const logits = matmul(reshape(y, [-1, HIDDEN]), leaves.embedding, { transposeB: true });
    const loss = mean(crossEntropy(logits, reshape(input('labels', 'int64', ['batch', 'sequence']), [-1])));
    const gradients = gradient(loss, Object.values(leaves));
    const outputs: Record<string, Tensor> = { loss, state: recurrence.state };
    for (const [i, name] of Object.keys(leaves).entries()) outputs[`d-${name}`] = gradients[i]!;
    return outputs;
  }

  function feeds(batch: number, sequence: number): Record<string, HostTensor> {
    const ids = (step: number) =>
      int64(
        Array.from({ length: batch * sequence }, (_, i) => (i * step + 3) % VOCABULARY),
        [batch, sequence],
      );
    const values = Object.entries(parameters).map(([name, dims], i) => [name, uniform(i, dims)] as const);
    return { ...Object.fromEntries(values), tokens: ids(5), labels: ids(7) };
  }

  onWebGpu('of [2,9] and of [1,2] tokens', (device) =>
    expectEqual(device, program(), feeds(2, 9), feeds(1, 2)),
  );
});

describe('convolutions whose kernel the device brings', () => {
  for (const width of [1, 2, 4]) {
    onWebGpu(`width ${width}`, async (device) => {
      const state = input('state', 'float32', ['batch', width - 1, 3]);
      const x = input('x', 'float32', ['batch', 'sequence', 3]);
      const results = causalConvolution(x, input('weight', 'float32', [3, 1, width]), undefined, state);
      const feeds = (sequence: number) => ({
        x: uniform(1, [2, sequence, 3]),
        weight: uniform(2, [3, 1, width]),
        state: uniform(3, [2, width - 1, 3]),
      });
      await expectEqual(device, { y: results.output, next: results.state }, feeds(1), feeds(5));
    });
  }
});

describe('a state', () => {
  onWebGpu('is replaced and grows', async (device) => {
    const total = input('total', 'float32', [2]);
    const cache = input('cache', 'float32', ['room', 2]);
    const x = input('x', 'float32', ['n', 2]);
    const executable = await device.compile({
      inputs: [x],
      outputs: { y: add(total, mean(cache, 0)) },
      state: [
        {
          spec: { name: 'total', dtype: 'float32', shape: [2], initial: 0 },
          before: total,
          after: add(total, mean(x, 0)),
        },
        {
          spec: { name: 'cache', dtype: 'float32', shape: ['past', 2], grows: 0, initial: 0 },
          before: cache,
          after: multiply(x, 2),
        },
      ],
    });
    const state = executable.newState();
    const rows = (count: number, value: number): HostTensor => ({
      dtype: 'float32',
      dims: [count, 2],
      data: new Float32Array(2 * count).fill(value),
    });
    await executable.run({ x: rows(2, 1) }, [state]);
    const fork = state.fork();
    await executable.run({ x: rows(1, 2) }, [state]);
    await executable.run({ x: rows(1, 5) }, [fork]);
    const read = async (from: State): Promise<number[][]> =>
      [...(await from.read()).values()].map(({ data }) => Array.from(data, Number));
    expect(await read(state)).toEqual([
      [3, 3],
      [2, 2, 2, 2, 4, 4],
    ]);
    expect(await read(fork)).toEqual([
      [6, 6],
      [2, 2, 2, 2, 10, 10],
    ]);
    expect([state.length, fork.length]).toEqual([3, 3]);
    state.dispose();
    fork.dispose();
    await executable.dispose();
  });
});
