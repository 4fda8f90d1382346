/** Pieces of work, each of which a process of its own does: what one takes of memory is not the other's, and a crash ends one alone. */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';
import type { Device, DeviceName } from '../engine/index.js';
import { DataError } from '../errors.js';
import { type Finding, type Machine, sameSettings } from './finding.js';

/** A piece of work that finds numbers; pieces can be done in any order, in other processes. */
export interface Work {
  /** `ability/mqar-64/hybrid`: what its findings' keys begin with. */
  readonly name: string;
  /** Whether nothing else may run beside it: it measures time or power. */
  readonly alone?: boolean;
  /** Devices that it can be done on; all of them, if it does not say. */
  readonly devices?: readonly DeviceName[];
  /** All that it may find, on any device: what was found with other settings is of another day, and told no more. */
  asks(): readonly Wanted[];
  run(bench: Bench): Promise<void>;
}

/** What a piece of work is given. */
export interface Bench {
  readonly device: Device;
  /** Finds these numbers by `find`, unless they were found before, and returns them. */
  finding(wanted: Wanted, find: () => Promise<Finding['numbers']>): Promise<Finding['numbers']>;
}

/** A finding that a piece of work makes, before it is made. */
export interface Wanted extends Pick<Finding, 'settings'> {
  /** What its key has behind the name of the work: `seed 1`. */
  readonly of: string;
  readonly seed?: number;
}

/** Those of the findings that one of the works asks for as it is today. */
export function askedFor(works: readonly Work[], findings: readonly Finding[]): Finding[] {
  const byName = new Map(works.map((work) => [work.name, work]));
  const asked = new Map<string, readonly Wanted[]>();
  return findings.filter(({ key, settings }) => {
    const name = key.slice(0, key.lastIndexOf('/'));
    const work = byName.get(name);
    if (!work) return false;
    if (!asked.has(name)) asked.set(name, work.asks());
    return asked
      .get(name)!
      .some((each) => key === `${name}/${each.of}` && sameSettings(each.settings, settings));
  });
}

/** The keys of all that these works may find, on any device. */
export function keysOf(works: readonly Work[]): Set<string> {
  return new Set(works.flatMap((work) => work.asks().map(({ of }) => `${work.name}/${of}`)));
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** What a piece of work is run with. */
export interface BenchOptions {
  readonly work: Work;
  readonly device: Device;
  readonly command: string;
  /** How the device was opened, where it was said. */
  readonly opened?: Pick<Finding, 'precision' | 'threads'>;
  /** What was found before. */
  readonly found: (wanted: Pick<Finding, 'key' | 'settings'>) => Finding | undefined;
  readonly onFinding: (finding: Finding) => void;
}

/** What a piece of work is given to find things with: findings that are there already are not made again. */
export function benchOf({ work, device, command, opened, found, onFinding }: BenchOptions): Bench {
  const machine = thisMachine(device.name);
  return {
    device,
    async finding({ of, settings, seed }, find) {
      const key = `${work.name}/${of}`;
      const before = found({ key, settings });
      if (before) return before.numbers;
      const started = performance.now();
      const numbers = await find();
      for (const [name, value] of Object.entries(numbers))
        if (!Number.isFinite(value))
          throw new DataError(`${key} was found with a ${name} of ${value}: nothing is told of it`);
      const seconds = Math.round(performance.now() - started) / 1000;
      const at = new Date().toISOString();
      onFinding({
        ...{ key, settings, numbers, ...(seed !== undefined && { seed }) },
        ...{ command, version, machine, device: device.name, ...opened, at, seconds },
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
