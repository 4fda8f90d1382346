/** Profiles a program on the device `wasm`. */
import { DeviceError } from '../../errors.js';
import type { Device, Program } from '../program.js';
import type { HostTensor } from '../tensors.js';
import { WasmDevice } from './device.js';

/** The time of one step of a schedule. */
export interface StepTime {
  /** Its operation and its layer. */
  readonly label: string;
  readonly path: string;
  /** There is a barrier between stages, and none between the steps of a stage. */
  readonly stage: number;
  /** On the calling thread, the mean over the faster half of all rounds. The wait at the barrier counts to a stage's last step. */
  readonly milliseconds: number;
  /** Bytes of weights that it reads. */
  readonly weightBytes: number;
}

/** The steps of a program's schedule, in order, for new states with `length` entries. Throws `DeviceError` if the device is not `wasm`. */
export async function stepTimes(
  program: Program,
  feeds: Readonly<Record<string, HostTensor>>,
  device: Device,
  { rows, length, rounds }: { rows: number; length: number; rounds: number },
): Promise<StepTime[]> {
  if (!(device instanceof WasmDevice))
    throw new DeviceError('only the wasm device tells the times of its steps');
  const executable = await device.compile(program);
  const states = Array.from({ length: rows }, () => executable.newState(new Map(), length));
  try {
    const steps = await executable.profile(feeds, states, rounds);
    return steps.map(({ step: { label, path, weightBytes }, stage, milliseconds }) => {
      return { label, path, stage, milliseconds, weightBytes };
    });
  } finally {
    for (const state of states) state.dispose();
    await executable.dispose();
  }
}
