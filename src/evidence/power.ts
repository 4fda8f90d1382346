/** The power of a GPU, as its driver tells it while something computes. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { DeviceError } from '../errors.js';

/** `power.draw` may be a mean over the last second (it is on Hopper and other new GPUs); `power.draw.instant` is not, where there is one. */
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

  /** Starts `program`, the driver's own by default; samples come a while later. */
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

  /** Whether a sample has come. */
  get isRunning(): boolean {
    return this.samples.length > 0;
  }

  /** Throws `DeviceError` where no sample has come after so many milliseconds, when one should have. */
  expectRunning(milliseconds: number): void {
    if (this.isRunning || milliseconds < STARTS_WITHIN) return;
    this.child.kill();
    throw new DeviceError('nvidia-smi tells no power of the GPU: the energy cannot be measured here');
  }

  /** Forgets what was sampled so far. */
  clear(): void {
    this.samples.splice(0);
  }

  /** The mean since then. */
  stop(): number {
    this.child.kill();
    return this.samples.reduce((a, b) => a + b, 0) / this.samples.length;
  }
}

/** The watts that a line tells, if it does: `[N/A]` is none. */
function wattsIn(line: string): number | undefined {
  const text = line.trim();
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined;
}
