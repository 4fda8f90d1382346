/**
 * Training by XLA's program follows training on the CPU: 12 steps of each sibling, the loss within 1e-4 at every one in float32, and near it
 * with products in bfloat16. The program is evaluated here; on a GPU `npm run test:gpu` proves its operators.
 */
import { expect, test } from 'vitest';
import { type Device, float32, type HostTensor, int64, openDevice } from '../engine/index.js';
import { XlaDevice } from '../engine/xla/device.js';
import type { CompileOptions, PjrtClient, PjrtExecutable } from '../engine/xla/pjrt.js';
import { EvaluatorClient } from '../engine/xla/testing/evaluator-client.js';
import { DESIGNS, type Design, hybridModel, modelConfig, preset } from '../models/index.js';
import { Random } from '../nn/index.js';
import { initialWeights, precisionsOf } from './equipment.js';
import { ADAMW_DEFAULTS, STEP_SCALARS, stepScalars } from './optimizer.js';
import { trainingProgram } from './program.js';
import type { TrainingSettings } from './settings.js';
import { nextTokens } from './text.js';

const STEPS = 12;
const [batch, sequence, vocabulary] = [2, 16, 48];

/** Of a run whose steps these devices take, one part after the other. */
async function losses(
  devices: Device | readonly Device[],
  design: Design,
  stepsPerRun = 1,
  accumulate = 1,
  precisions: NonNullable<TrainingSettings['precisions']> = {},
): Promise<number[]> {
  const config = {
    ...preset(design, 'nano', vocabulary),
    pattern: { transformer: '*-', ssm: 'M-', hybrid: 'M-S-' }[design],
    hiddenSize: 16,
    mambaNumHeads: 2,
    mambaHeadDim: 8,
    ssmStateSize: 4,
    intermediateSize: 16,
    numAttentionHeads: 2,
    numKeyValueHeads: 1,
    headDim: 8,
    attentionWindow: 4,
    attentionSelected: 4,
  };
  const model = hybridModel(modelConfig(config));
  const shape = { batch: batch / accumulate, accumulate, stepsPerRun };
  const { program, parameters } = trainingProgram(model, nextTokens(sequence), ADAMW_DEFAULTS, shape);
  const random = new Random(2);
  const seen: number[] = [];
  const parts = [devices].flat();
  let memory: ReadonlyMap<string, HostTensor> = initialWeights(parameters, 1);
  for (const [part, device] of parts.entries()) {
    const executable = await device.compile({ ...program, precisionOf: precisionsOf(model, precisions) });
    const state = executable.newState(memory);
    const end = (STEPS * (part + 1)) / parts.length;
    for (let step = seen.length + 1; step <= end; step += stepsPerRun) {
      const dims = [stepsPerRun, accumulate, batch / accumulate, sequence + 1];
      const ids = Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random.below(vocabulary / 4));
      const scalars = Array.from({ length: stepsPerRun }, (_, i) =>
        stepScalars(ADAMW_DEFAULTS, step + i, 3e-3),
      );
      const { loss } = await executable.run(
        { tokens: int64(ids, dims), scalars: float32(scalars.flat(), [stepsPerRun, STEP_SCALARS]) },
        [state],
      );
      seen.push(...(loss!.data as Float32Array));
    }
    memory = await state.read();
    state.dispose();
    await executable.dispose();
  }
  return seen;
}

function furthest(actual: readonly number[], expected: readonly number[]): number {
  return Math.max(...actual.map((loss, step) => Math.abs(loss - expected[step]!)));
}

for (const design of DESIGNS) {
  test(`${design}: the loss over ${STEPS} steps`, async () => {
    const expected = await losses(await openDevice('cpu', { threads: 1 }), design);
    const wide = new XlaDevice(new EvaluatorClient(), { precision: 'float32' });
    expect(furthest(await losses(wide, design), expected)).toBeLessThan(1e-4);
    const narrow = new XlaDevice(new EvaluatorClient(), { precision: 'bfloat16' });
    expect(furthest(await losses(narrow, design), expected)).toBeLessThan(2e-2);
  });
}

test('layers of a letter have a precision of their own, forward and back', async () => {
  const texts: string[] = [];
  const client = new EvaluatorClient();
  const compile = (on: PjrtClient, text: string, options: CompileOptions): Promise<PjrtExecutable> => {
    texts.push(text);
    return on.compile(text, options);
  };
  /** Products of operands of this type in the training step that was compiled last; other programs, which read its state, have none. */
  const products = (element: string): number =>
    texts
      .filter((text) => text.includes('dot_general'))
      .at(-1)!
      .split('\n')
      .filter((line) => line.includes('dot_general') && line.includes(`x${element}>, `)).length;
  const expected = await losses(await openDevice('cpu', { threads: 1 }), 'hybrid');
  const errors: number[] = [];
  const counts: (readonly [f32: number, bf16: number])[] = [];
  for (const precisions of [{ S: 'float32' }, { M: 'float32', '-': 'float32', S: 'float32' }] as const) {
    const device = new XlaDevice(client, { precision: 'bfloat16', compile });
    errors.push(furthest(await losses(device, 'hybrid', 1, 1, precisions), expected));
    counts.push([products('f32'), products('bf16')]);
  }
  const [attention, all] = counts;
  expect(attention![0]).toBeGreaterThan(0);
  expect(attention![0] + attention![1]).toBe(all![0] + all![1]);
  // What is left in bfloat16 is the head, with its two gradients.
  expect(all![1]).toBe(3);
  expect(attention![1]).toBeGreaterThan(3);
  expect(errors[0]).toBeLessThan(2e-2);
  expect(errors[1]).toBeLessThan(errors[0]!);
});

test.each([
  ['several steps in one run', 4, 1],
  ['batches that are added up', 1, 2],
] as const)('%s', async (_, stepsPerRun, accumulate) => {
  const expected = await losses(await openDevice('cpu', { threads: 1 }), 'ssm', stepsPerRun, accumulate);
  for (const [precision, tolerance] of [
    ['float32', 1e-4],
    ['bfloat16', 2e-2],
  ] as const) {
    const device = new XlaDevice(new EvaluatorClient(), { precision });
    expect(furthest(await losses(device, 'ssm', stepsPerRun, accumulate), expected)).toBeLessThan(tolerance);
  }
});

test('a run goes on with another number of devices, however they share it, and on the CPU', async () => {
  const shared = (shard: 'data' | 'full'): Device =>
    new XlaDevice(new EvaluatorClient(2), { precision: 'float32', devices: 2, shard });
  const alone = new XlaDevice(new EvaluatorClient(), { precision: 'float32' });
  const cpu = await openDevice('cpu', { threads: 1 });
  const expected = await losses(cpu, 'ssm');
  const actual = await losses([shared('full'), alone, shared('data'), cpu], 'ssm');
  expect(furthest(actual, expected)).toBeLessThan(1e-4);
});
