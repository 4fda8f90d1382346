/** Heddle as a contender in the training race: `node train-process.js '<TrainProcessInput as JSON>'`. */
import { createInterface } from 'node:readline';
import { type DeviceName, openDevice } from '../engine/index.js';
import { countParameters } from '../models/index.js';
import type { Ready, Round } from './contender.js';
import { say } from './line-process.js';
import { peakMemory } from './machine.js';
import type { TrainingTask } from './plan.js';
import { compileStep, startRun } from './training.js';

/** The input of the process. */
export interface TrainProcessInput {
  task: TrainingTask;
  device: DeviceName;
  threads: number;
}

const { task, device, threads } = JSON.parse(process.argv[2]!) as TrainProcessInput;
const step = await compileStep(task, await openDevice(device, { threads }));
const run = startRun(task, step);
say({ parameters: countParameters(step.parameters), preparation: step.preparation } satisfies Ready);
for await (const _ of createInterface({ input: process.stdin })) {
  const { seconds, loss } = await run.round();
  say({ seconds, loss, peakBytes: peakMemory() } satisfies Round);
}
await run.dispose();
