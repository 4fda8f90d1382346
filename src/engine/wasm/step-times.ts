/** Where the time of a program goes on the wasm device. */
import type { Program } from '../program.js';
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

/** The steps of a program's schedule, in order, for new states that hold `length` entries. Throws `DeviceError`. */
export async function stepTimes(
  program: Program,
  feeds: Readonly<Record<string, HostTensor>>,
  options: { threads: number; rows: number; length: number; rounds: number },
): Promise<StepTime[]> {
  const { threads, rows, length, rounds } = options;
  const device = new WasmDevice({ threads });
  try {
    const executable = await device.compile(program);
    const states = Array.from({ length: rows }, () => executable.newState(new Map(), length));
    const steps = await executable.profile(feeds, states, rounds);
    return steps.map(({ step: { label, path, weightBytes }, stage, milliseconds }) => {
      return { label, path, stage, milliseconds, weightBytes };
    });
  } finally {
    await device.dispose();
  }
}
