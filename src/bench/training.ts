/** Timing of the training step. */
import { type Device, type Executable, float32, type HostTensor } from '../engine/index.js';
import { hybridModel } from '../models/index.js';
import { type ParameterSpec, Random } from '../nn/index.js';
import {
  ADAMW_DEFAULTS,
  initialWeights,
  nextTokens,
  stepsPerRunOn,
  trainingProgram,
} from '../train/index.js';
import { STEP_SCALARS, stepScalars } from '../train/optimizer.js';
import type { TrainingTask } from './plan.js';

/** Steps per round, in one or several runs of the program, as in the trainer. */
export const STEPS_PER_ROUND = 8;
const LEARNING_RATE = 1e-3;

/** Seconds until the first step can run. */
export interface Preparation {
  /** To build the graph: loss, gradients and update. */
  build: number;
  /** To encode it as ONNX and create a session. */
  compile: number;
}

/** A compiled training step. */
export interface CompiledStep {
  readonly executable: Executable;
  readonly parameters: readonly ParameterSpec[];
  readonly preparation: Preparation;
  readonly stepsPerRun: number;
}

/** Compiles the program that the trainer runs. */
export async function compileStep(task: TrainingTask, device: Device): Promise<CompiledStep> {
  const { config, batch, sequence } = task;
  const model = hybridModel(config);
  const stepsPerRun = stepsPerRunOn(device, model, batch * sequence);
  const shape = { batch, accumulate: 1, stepsPerRun };
  const started = performance.now();
  const { program, parameters } = trainingProgram(model, nextTokens(sequence), ADAMW_DEFAULTS, shape);
  const built = performance.now();
  const executable = await device.compile(program);
  await executable.prepare?.();
  const compiled = performance.now();
  const preparation = { build: (built - started) / 1000, compile: (compiled - built) / 1000 };
  return { executable, parameters, preparation, stepsPerRun };
}

/** A sequence of training steps. */
export interface TrainingRun {
  /** Runs the steps of a round; returns the seconds per step, and the losses in nats per token: of the last step, and of all steps. */
  round(): Promise<{ seconds: number; loss: number; losses: readonly number[] }>;
  dispose(): Promise<void>;
}

/** Options of `startRun`. */
export interface RunSettings {
  readonly steps?: number;
  readonly memory?: ReadonlyMap<string, HostTensor>;
  /** The device. If it runs asynchronously, the next run is queued while one is active, as in the trainer. */
  readonly device?: Device;
}

/** Starts a run on one batch of random tokens, which is repeated; from new weights if none are given. */
export function startRun(
  task: TrainingTask,
  step: CompiledStep,
  { steps = STEPS_PER_ROUND, memory = initialWeights(step.parameters, 1), device }: RunSettings = {},
): TrainingRun {
  const { executable, stepsPerRun } = step;
  const state = executable.newState(memory);
  const tokens = randomTokens(task, stepsPerRun);
  const most = device?.runsAhead ? 2 : 1;
  let done = 0;
  const ask = (): ReturnType<Executable['run']> => {
    const scalars = new Float32Array(stepsPerRun * STEP_SCALARS);
    for (let s = 0; s < stepsPerRun; s++) {
      scalars.set(stepScalars(ADAMW_DEFAULTS, ++done, LEARNING_RATE), s * STEP_SCALARS);
    }
    const feeds = { tokens, scalars: float32(scalars, [stepsPerRun, STEP_SCALARS]) };
    return executable.run(feeds, [state]);
  };
  return {
    async round() {
      const losses: number[] = [];
      const started = performance.now();
      const asked: ReturnType<typeof ask>[] = [];
      for (let i = 0; i < steps || asked.length > 0; i += stepsPerRun) {
        if (i < steps) asked.push(ask());
        if (asked.length === most || i >= steps) {
          const { loss } = await asked.shift()!;
          losses.push(...(loss!.data as Float32Array));
        }
      }
      const seconds = (performance.now() - started) / 1000 / losses.length;
      return { seconds, loss: losses.at(-1)!, losses };
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
