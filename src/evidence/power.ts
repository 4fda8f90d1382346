/** The power of a GPU, sampled from its driver. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { DeviceError } from '../errors.js';

/** The window of `power.draw`, in seconds: on Hopper and other new GPUs it is a mean over the last second; `power.draw.instant`, where it exists, is not. */
export const MEAN_SECONDS = 1.2;
const STARTS_WITHIN = 5000;

/** Samples the power of the first GPU, in watts, 20 times a second. */
export class PowerMeter {
  private readonly samples: number[] = [];

  private constructor(private readonly child: ChildProcess) {
    child.on('error', () => undefined);
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const watts = wattsIn(line);
      if (watts !== undefined) this.samples.push(watts);
    });
  }

  /** Starts `program`, by default the driver's tool; the first sample arrives later. */
  static start(program = 'nvidia-smi'): PowerMeter {
    const query = (name: string): string[] => [
      `--query-gpu=${name}`,
      '--format=csv,noheader,nounits',
      '--id=0',
    ];
    const { stdout } = spawnSync(program, query('power.draw.instant'), { encoding: 'utf8' });
    const name = wattsIn(stdout ?? '') === undefined ? 'power.draw' : 'power.draw.instant';
    return new PowerMeter(
      spawn(program, [...query(name), '-lms', '50'], { stdio: ['ignore', 'pipe', 'ignore'] }),
    );
  }

  /** Whether a sample has arrived. */
  get isRunning(): boolean {
    return this.samples.length > 0;
  }

  /** Throws `DeviceError` if no sample has arrived although `milliseconds` exceeds the time limit. */
  expectRunning(milliseconds: number): void {
    if (this.isRunning || milliseconds < STARTS_WITHIN) return;
    this.child.kill();
    throw new DeviceError('nvidia-smi tells no power of the GPU: the energy cannot be measured here');
  }

  /** Discards the samples so far. */
  clear(): void {
    this.samples.splice(0);
  }

  /** Stops sampling; returns the mean power since the last `clear`, in watts. */
  stop(): number {
    this.child.kill();
    return this.samples.reduce((a, b) => a + b, 0) / this.samples.length;
  }
}

/** Parses a line in watts; undefined for `[N/A]`. */
function wattsIn(line: string): number | undefined {
  const text = line.trim();
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined;
}
