/** The machine of a measurement, and the memory of the process. */
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';
import { type DeviceName, onnxRuntimeVersion } from '../engine/index.js';

/** The machine on which numbers were measured. */
export interface Machine {
  cpu: string;
  cores: number;
  memoryBytes: number;
  system: string;
  device: DeviceName;
  /** Threads of the engine. */
  threads: number;
  node: string;
  onnxruntime: string;
}

/** Describes this machine with the device and threads in use. */
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

/** The peak resident memory of this process, in bytes. */
export function peakMemory(): number {
  if (process.platform === 'linux') {
    // getrusage is not used, since its value starts at the parent process's peak.
    const highWater = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'));
    if (highWater) return Number(highWater[1]) * 1024;
  }
  return process.resourceUsage().maxRSS * 1024;
}
