/** Where the time of a program goes on the wasm device. */
import { DeviceError } from '../../errors.js';
import type { Device, Program } from '../program.js';
import type { HostTensor } from '../tensors.js';
import { WasmDevice } from './device.js';

/** What one step of a schedule took. */
export interface StepTime {
  /** What it computes, and the layer in which it stands. */
  readonly label: string;
  readonly path: string;
  /** Between stages all threads wait for each other; steps of one stage follow each other without. */
  readonly stage: number;
  /** Of the calling thread, the mean over the faster half of all rounds; its waiting for others counts to a stage's last step. */
  readonly milliseconds: number;
  /** Bytes of weights that it reads. */
  readonly weightBytes: number;
}

/** The steps of a program's schedule, in order, for new states that hold `length` entries. Throws `DeviceError` where the device is not `wasm`. */
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
