/** Where numbers were measured, and how much memory the process took. */
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';
import { type DeviceName, onnxRuntimeVersion } from '../engine/index.js';

/** The machine that figures are of. */
export interface Machine {
  cpu: string;
  cores: number;
  memoryBytes: number;
  system: string;
  device: DeviceName;
  /** Threads that the engine computes with. */
  threads: number;
  node: string;
  onnxruntime: string;
}

/** This machine, and what computes on it. */
export function describeMachine(device: DeviceName, threads: number): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    system: `${type()} ${release()} ${process.arch}`,
    device,
    threads,
    node: process.version,
    onnxruntime: onnxRuntimeVersion(),
  };
}

/** The most memory that this process had resident at once, in bytes. */
export function peakMemory(): number {
  if (process.platform === 'linux') {
    // Not getrusage's: that one starts out at what the parent process had taken.
    const highWater = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'));
    if (highWater) return Number(highWater[1]) * 1024;
  }
  return process.resourceUsage().maxRSS * 1024;
}
