/** Training on WebGPU follows training on the CPU: 50 steps of each sibling, the loss within 1e-3 at every one. */
import { expect, test } from 'vitest';
import { type Device, float32, int64, openDevice } from '../engine/index.js';
import { DESIGNS, type Design, hybridModel, modelConfig, preset } from '../models/index.js';
import { Random } from '../nn/index.js';
import { initialWeights } from './equipment.js';
import { ADAMW_DEFAULTS, STEP_SCALARS, stepScalars } from './optimizer.js';
import { trainingProgram } from './program.js';
import { nextTokens } from './text.js';

const webgpu = await openDevice('webgpu').catch((error: Error) => error);
if (webgpu instanceof Error) console.warn(`The webgpu training test is skipped: ${webgpu.message}`);

const STEPS = 50;
const [batch, sequence, vocabulary] = [2, 24, 64];

/** Losses of a short run of a very small sibling, on the same tokens everywhere. */
async function losses(device: Device, design: Design): Promise<number[]> {
  const config = {
    ...preset(design, 'nano', vocabulary),
    hiddenSize: 32,
    mambaNumHeads: 2,
    intermediateSize: 32,
  };
  const small = {
    ...config,
    numAttentionHeads: 2,
    numKeyValueHeads: 1,
    attentionWindow: 4,
    attentionSelected: 4,
  };
  const model = hybridModel(modelConfig(small));
  const shape = { batch, accumulate: 1, stepsPerRun: 1 };
  const { program, parameters } = trainingProgram(model, nextTokens(sequence), ADAMW_DEFAULTS, shape);
  const executable = await device.compile(program);
  const state = executable.newState(initialWeights(parameters, 1));
  const random = new Random(2);
  const seen: number[] = [];
  for (let step = 1; step <= STEPS; step++) {
    const size = batch * (sequence + 1);
    const ids = Array.from({ length: size }, () => random.below(vocabulary / 4));
    const { loss } = await executable.run(
      {
        tokens: int64(ids, [1, 1, batch, sequence + 1]),
        scalars: float32(stepScalars(ADAMW_DEFAULTS, step, 3e-3), [1, STEP_SCALARS]),
      },
      [state],
    );
    seen.push(loss!.data[0] as number);
  }
  state.dispose();
  await executable.dispose();
  return seen;
}

for (const design of DESIGNS) {
  test(`${design}: the loss over ${STEPS} steps`, async ({ skip }) => {
    if (webgpu instanceof Error) {
      skip(webgpu.message);
      return;
    }
    const expected = await losses(await openDevice('cpu'), design);
    const actual = await losses(webgpu, design);
    expect(expected.at(-1)).toBeLessThan(expected[0]! - 0.5);
    for (const [step, loss] of actual.entries()) expect(Math.abs(loss - expected[step]!)).toBeLessThan(1e-3);
  });
}
