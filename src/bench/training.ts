/** The training step under the clock. */
import { type Device, type Executable, float32, type HostTensor } from '../engine/index.js';
import { hybridModel } from '../models/index.js';
import { type ParameterSpec, Random } from '../nn/index.js';
import { ADAMW_DEFAULTS, initialMemory, nextTokens, stepsPerRunOn, trainingProgram } from '../train/index.js';
import { STEP_SCALARS, stepScalars } from '../train/optimizer.js';
import type { TrainingTask } from './plan.js';

/** Steps in a round: one or several runs of the program, as the trainer does it. */
export const STEPS_PER_ROUND = 8;
const LEARNING_RATE = 1e-3;

/** How long it takes until the first step can run, in seconds. */
export interface Preparation {
  /** Of building the graph: loss, gradients and update. */
  build: number;
  /** Of encoding it as ONNX and making a session of it. */
  compile: number;
}

/** A training step, ready to run. */
export interface CompiledStep {
  readonly executable: Executable;
  readonly parameters: readonly ParameterSpec[];
  readonly preparation: Preparation;
  readonly stepsPerRun: number;
}

/** The program that the trainer would run, compiled. */
export async function compileStep(task: TrainingTask, device: Device): Promise<CompiledStep> {
  const { config, batch, sequence } = task;
  const model = hybridModel(config);
  const stepsPerRun = stepsPerRunOn(device, model, batch * sequence);
  const shape = { batch, accumulate: 1, stepsPerRun };
  const started = performance.now();
  const { program, parameters } = trainingProgram(model, nextTokens(sequence), ADAMW_DEFAULTS, shape);
  const built = performance.now();
  const executable = await device.compile(program);
  const compiled = performance.now();
  const preparation = { build: (built - started) / 1000, compile: (compiled - built) / 1000 };
  return { executable, parameters, preparation, stepsPerRun };
}

/** Steps that are taken one after the other. */
export interface TrainingRun {
  /** Does STEPS_PER_ROUND steps; returns the seconds a step, and the loss (nats a token) of the last one. */
  round(): Promise<{ seconds: number; loss: number }>;
  dispose(): Promise<void>;
}

/** A run from new weights on random tokens, which it sees again and again. */
export function startRun(task: TrainingTask, step: CompiledStep): TrainingRun {
  const { executable, parameters, stepsPerRun } = step;
  const state = executable.newState(initialMemory(parameters, 1));
  const tokens = randomTokens(task, stepsPerRun);
  let done = 0;
  return {
    async round() {
      let loss = Number.NaN;
      const started = performance.now();
      for (let i = 0; i < STEPS_PER_ROUND; i += stepsPerRun) {
        const scalars = new Float32Array(stepsPerRun * STEP_SCALARS);
        for (let s = 0; s < stepsPerRun; s++) {
          scalars.set(stepScalars(ADAMW_DEFAULTS, ++done, LEARNING_RATE), s * STEP_SCALARS);
        }
        const feeds = { tokens, scalars: float32(scalars, [stepsPerRun, STEP_SCALARS]) };
        const outputs = await executable.run(feeds, [state]);
        loss = outputs.loss!.data[stepsPerRun - 1] as number;
      }
      return { seconds: (performance.now() - started) / 1000 / STEPS_PER_ROUND, loss };
    },
    async dispose() {
      state.dispose();
      await executable.dispose();
    },
  };
}

function randomTokens({ config, batch, sequence }: TrainingTask, steps: number): HostTensor {
  const random = new Random(1);
  const dims = [steps, 1, batch, sequence + 1];
  const size = dims.reduce((a, b) => a * b, 1);
  const data = BigInt64Array.from({ length: size }, () => BigInt(random.below(config.vocabSize)));
  return { dtype: 'int64', dims, data };
}
