/**
 * The step for several GPUs in one form: `node shared-process.js '<SharedProcessInput as JSON>'` says when the step is compiled, and measures
 * it on a line of input.
 */
import { once } from 'node:events';
import { type DeviceOptions, openDevice } from '../engine/index.js';
import { countParameters } from '../models/index.js';
import type { Compiled, SharedRound } from './gpu-training.js';
import { say } from './line-process.js';
import type { TrainingTask } from './plan.js';
import { quickWeights } from './quick-weights.js';
import { median } from './train-section.js';
import { compileStep, startRun } from './training.js';

/** The input of the process. */
export interface SharedProcessInput {
  task: TrainingTask;
  options: DeviceOptions;
  steps: number;
}

/** Seconds of rounds after which no other round begins. */
const ENOUGH = 20;

const { task, options, steps } = JSON.parse(process.argv[2]!) as SharedProcessInput;
const device = await openDevice('cuda', options);
const step = await compileStep(task, device);
const memory = quickWeights(step.parameters);
say({ parameters: countParameters(step.parameters) } satisfies Compiled);
await once(process.stdin, 'data');
const run = startRun(task, step, { steps, memory, device });
const { losses } = await run.round();
const seconds: number[] = [];
do {
  seconds.push((await run.round()).seconds);
} while (seconds.length < 3 && seconds.reduce((sum, each) => sum + each * steps, 0) < ENOUGH);
say({ seconds: median(seconds), losses, memory: device.gpuMemory?.() ?? [] } satisfies SharedRound);
await run.dispose();
await device.dispose();
process.stdin.destroy();
