/** Pieces of work, each of which a process of its own does: what one takes of memory is not the other's, and a crash ends one alone. */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';
import type { Device, DeviceName } from '../engine/index.js';
import type { Finding, Machine } from './finding.js';

export interface Work {
  /** `ability/mqar-64/hybrid`: what its findings' keys begin with. */
  readonly name: string;
  /** Whether nothing else may run beside it: it measures time or power. */
  readonly alone?: boolean;
  /** Devices that it can be done on; all of them, if it does not say. */
  readonly devices?: readonly DeviceName[];
  run(bench: Bench): Promise<void>;
}

/** What a piece of work is given. */
export interface Bench {
  readonly device: Device;
  /** Finds these numbers by `find`, unless they were found before, and returns them. */
  finding(wanted: Wanted, find: () => Promise<Finding['numbers']>): Promise<Finding['numbers']>;
}

export interface Wanted extends Pick<Finding, 'settings'> {
  /** What its key has behind the name of the work: `seed 1`. */
  readonly of: string;
  readonly seed?: number;
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

export interface BenchOptions {
  readonly work: Work;
  readonly device: Device;
  readonly command: string;
  /** What was found before. */
  readonly found: (wanted: Pick<Finding, 'key' | 'settings'>) => Finding | undefined;
  readonly onFinding: (finding: Finding) => void;
}

export function benchOf({ work, device, command, found, onFinding }: BenchOptions): Bench {
  const machine = thisMachine(device.name);
  return {
    device,
    async finding({ of, settings, seed }, find) {
      const key = `${work.name}/${of}`;
      const before = found({ key, settings });
      if (before) return before.numbers;
      const started = performance.now();
      const numbers = await find();
      const seconds = Math.round(performance.now() - started) / 1000;
      const at = new Date().toISOString();
      onFinding({
        ...{ key, settings, numbers, ...(seed !== undefined && { seed }) },
        ...{ command, version, machine, device: device.name, at, seconds },
      });
      return numbers;
    },
  };
}

function thisMachine(device: DeviceName): Machine {
  const gpu = device === 'cpu' || device === 'wasm' ? undefined : gpuName();
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    system: `${type()} ${release()} ${process.arch}`,
    node: process.version,
    ...(gpu && { gpu }),
  };
}

function gpuName(): string | undefined {
  const { stdout } = spawnSync('nvidia-smi', ['--query-gpu=name', '--format=csv,noheader'], {
    encoding: 'utf8',
  });
  return stdout?.split('\n')[0]?.trim() || undefined;
}
