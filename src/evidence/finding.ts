/**
 * What was found: numbers under a key, with all that it takes to find them again. Findings are kept in one JSON file, which is written
 * whole after each new one, so that a run that ends early goes on where it stopped. Those of other machines stand beside them.
 */
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { makeFolder, parseJson, writeFileAtomic } from '../checkpoint/index.js';
import { ConfigError, StorageError } from '../errors.js';

const machineSchema = z.object({
  cpu: z.string(),
  cores: z.number(),
  memoryBytes: z.number(),
  system: z.string(),
  node: z.string(),
  /** By its driver's name, where one computed. */
  gpu: z.string().optional(),
});

const findingSchema = z.object({
  /** `ability/mqar-64/hybrid/seed 1`: the section, what it is about, and which of several. */
  key: z.string(),
  /** What was done, as far as it decides the numbers: another setting is another finding. */
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  numbers: z.record(z.string(), z.number()),
  seed: z.number().optional(),
  /** What finds it again. */
  command: z.string(),
  version: z.string(),
  machine: machineSchema,
  device: z.string(),
  at: z.string(),
  seconds: z.number(),
});

export type Machine = z.output<typeof machineSchema>;
export type Finding = z.output<typeof findingSchema>;

const fileSchema = z.object({ findings: z.array(findingSchema) });

const FILE = 'findings.json';
const LOCK = 'running.lock';

/** The findings of a folder, which one process at a time adds to. */
export class Findings {
  private written: Promise<void> = Promise.resolve();

  private constructor(
    private readonly folder: string,
    private readonly byKey: Map<string, Finding>,
  ) {}

  /** Reads them to add more. Throws `StorageError` while another process does so. */
  static async open(folder: string): Promise<Findings> {
    await makeFolder(folder);
    await lock(join(folder, LOCK), folder);
    try {
      return await Findings.read(folder);
    } catch (error) {
      await rm(join(folder, LOCK), { force: true });
      throw error;
    }
  }

  /** Throws `ConfigError` for a file of something else. */
  static async read(folder: string): Promise<Findings> {
    const path = join(folder, FILE);
    const byKey = existsSync(path) ? await readFindings(path) : [];
    return new Findings(folder, new Map(byKey.map((finding) => [finding.key, finding])));
  }

  get all(): Finding[] {
    return [...this.byKey.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** What was found before under this key with the same settings. */
  found({ key, settings }: Pick<Finding, 'key' | 'settings'>): Finding | undefined {
    const before = this.byKey.get(key);
    return before && sameSettings(before.settings, settings) ? before : undefined;
  }

  /** One file is written after the other, so that the last one has all. */
  add(...findings: readonly Finding[]): Promise<void> {
    for (const finding of findings) this.byKey.set(finding.key, finding);
    this.written = this.written.then(() => this.write());
    return this.written;
  }

  private write(): Promise<void> {
    // A line a finding, so that a change of one is a change of one line.
    const lines = this.all.map((finding) => JSON.stringify(finding)).join(',\n');
    return writeFileAtomic(join(this.folder, FILE), `{"findings":[\n${lines}\n]}\n`);
  }

  async close(): Promise<void> {
    await rm(join(this.folder, LOCK), { force: true });
  }
}

/** Those of a file that another run wrote. Throws `ConfigError` for a file of something else. */
export async function readFindings(path: string): Promise<Finding[]> {
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new StorageError(`${path} cannot be read: ${error.message}`, { cause: error });
  });
  const parsed = fileSchema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data.findings;
  throw new ConfigError(`${path} holds no findings: move it away, or name another folder with --out`);
}

function sameSettings(a: Finding['settings'], b: Finding['settings']): boolean {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => a[name] === b[name]);
}

async function lock(path: string, folder: string): Promise<void> {
  for (;;) {
    try {
      return await writeFile(path, String(process.pid), { flag: 'wx' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const owner = Number(await readFile(path, 'utf8').catch(() => ''));
      if (isAlive(owner)) {
        throw new StorageError(
          `the process ${owner} is gathering findings in ${folder}: wait for it, or name another folder with --out`,
        );
      }
      await rm(path, { force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
