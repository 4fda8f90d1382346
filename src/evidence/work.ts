/** Units of work, each run in a separate process, so that memory peaks are separate and a crash ends only one. */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';
import type { Device, DeviceName } from '../engine/index.js';
import { DataError } from '../errors.js';
import { type Finding, type Machine, sameSettings } from './finding.js';

/** A unit of work that produces findings; units can run in any order, in separate processes. */
export interface Work {
  /** `ability/mqar-64/hybrid`: the prefix of its findings' keys. */
  readonly name: string;
  /** Whether it must run alone, since it measures time or power. */
  readonly alone?: boolean;
  /** The devices that it can run on; default: all. */
  readonly devices?: readonly DeviceName[];
  /** All findings that it may produce, on any device. Stored findings with other settings are outdated and not reported. */
  asks(): readonly Wanted[];
  run(bench: Bench): Promise<void>;
}

/** The context of a unit of work. */
export interface Bench {
  readonly device: Device;
  /** Returns the numbers of a finding, computed with `find` unless they are stored. */
  finding(wanted: Wanted, find: () => Promise<Finding['numbers']>): Promise<Finding['numbers']>;
}

/** The description of a finding that a unit of work produces. */
export interface Wanted extends Pick<Finding, 'settings'> {
  /** The part of its key after the name of the work, such as `seed 1`. */
  readonly of: string;
  readonly seed?: number;
}

/** The findings with the current settings of one of the works. */
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

/** The keys of all findings that these works may produce, on any device. */
export function keysOf(works: readonly Work[]): Set<string> {
  return new Set(works.flatMap((work) => work.asks().map(({ of }) => `${work.name}/${of}`)));
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** Options of `benchOf`. */
export interface BenchOptions {
  readonly work: Work;
  readonly device: Device;
  readonly command: string;
  /** The device options of a finding, if they were specified. */
  readonly opened?: Pick<Finding, 'precision' | 'threads'>;
  /** Looks up a stored finding. */
  readonly found: (wanted: Pick<Finding, 'key' | 'settings'>) => Finding | undefined;
  readonly onFinding: (finding: Finding) => void;
}

/** Creates the context of a unit of work; stored findings are not computed again. */
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
