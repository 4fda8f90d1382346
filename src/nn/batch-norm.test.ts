/** Batch norm against its definition: by the batch in training, by what was kept elsewhere; its gradients, and what is kept. */
import { expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { input } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import { batchNorm } from './batch-norm.js';
import { ParameterRegistry } from './parameters.js';
import { checkGradients } from './testing/gradients.js';
import { randomWeights } from './testing/weights.js';

const device = await openDevice('cpu', { threads: 1 });
const STATISTICS = ['running_mean', 'running_var'];
const dims = [2, 3, 2];
const x = uniform(3, dims, -1, 2);
const given = { running_mean: [0.5, -0.25], running_var: [0.75, 2] };

/** The mean of a channel's values, and of their squared distances from it. */
function momentsOf(channel: number): { center: number; variance: number } {
  const values = Array.from(x.data as Float32Array).filter((_, i) => i % 2 === channel);
  const center = values.reduce((a, b) => a + b) / 6;
  return { center, variance: values.reduce((sum, value) => sum + (value - center) ** 2, 0) / 6 };
}

test.each([false, true])('is what its definition says (in training: %j)', async (training) => {
  const registry = new ParameterRegistry(new Set(training ? STATISTICS : []));
  const y = batchNorm(registry.root(), input('x', 'float32', dims));
  expect([...registry.renewed.keys()]).toEqual(training ? STATISTICS : []);
  const weights = randomWeights(registry.specs.values(), { given });
  const executable = await device.compile(
    withInputs({
      outputs: {
        y,
        ...Object.fromEntries([...registry.renewed].map(([name, next]) => [`next ${name}`, next])),
      },
      weights,
    }),
  );
  const { y: found, ...renewed } = await executable.run({ x });
  const at = (name: string, channel: number): number => weights.get(name)!.data[channel] as number;
  const expected = Array.from(x.data as Float32Array, (value, i) => {
    const channel = i % 2;
    const { center, variance } = training
      ? momentsOf(channel)
      : { center: given.running_mean[channel]!, variance: given.running_var[channel]! };
    return ((value - center) / Math.sqrt(variance + 1e-5)) * at('weight', channel) + at('bias', channel);
  });
  expect(relativeError(found!.data as Float32Array, expected)).toBeLessThan(1e-6);
  if (training) {
    const kept = [0, 1].map((channel) => {
      const { center, variance } = momentsOf(channel);
      return [
        0.9 * given.running_mean[channel]! + 0.1 * center,
        0.9 * given.running_var[channel]! + 0.1 * variance * 1.2,
      ];
    });
    for (const [i, name] of STATISTICS.entries()) {
      expect(
        relativeError(
          renewed[`next ${name}`]!.data as Float32Array,
          kept.map((each) => each[i]!),
        ),
      ).toBeLessThan(1e-6);
    }
  }
  await executable.dispose();
});

test.each([new Set<string>(), new Set(STATISTICS)])('has its gradients, made anew: %j', async (renews) => {
  const found = await checkGradients(device, (parameters, inputs) => batchNorm(parameters, inputs.x!), {
    inputs: { x },
    weights: given,
    renews,
  });
  for (const name of ['x', 'weight', 'bias'])
    expect(Math.hypot(...found.get(name)!), name).toBeGreaterThan(0);
});
