/**
 * What was found: numbers under a key, with all that it takes to find them again. Findings are kept in one JSON file, which is written
 * whole after each new one, so that a run that ends early goes on where it stopped. Those of other machines stand beside them.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson, writeFileAtomic } from '../checkpoint/index.js';
import { ConfigError, StorageError } from '../errors.js';
import { lockFolder } from '../platform/node/lock.js';

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
  /** In which a GPU computed products, and the threads of a CPU, where they were asked for. */
  precision: z.string().optional(),
  threads: z.number().optional(),
  at: z.string(),
  seconds: z.number(),
});

/** The machine that a finding was made on. */
export type Machine = z.output<typeof machineSchema>;
/** A measured result, with all that is needed to make it again. */
export type Finding = z.output<typeof findingSchema>;

const fileSchema = z.object({ findings: z.array(findingSchema) });

const FILE = 'findings.json';

/** A finding that a process printed as a line of JSON; nothing for what is no JSON object. Throws `ConfigError` for one that is no finding. */
export function findingIn(line: string): Finding | undefined {
  const value = parseJson(line);
  if (typeof value !== 'object' || value === null) return undefined;
  const parsed = findingSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues as [z.core.$ZodIssue];
  throw new ConfigError(`what was found is no finding: ${path.join('.')}: ${message}`);
}

/** The findings of a folder, which one process at a time adds to. */
export class Findings {
  private written: Promise<void> = Promise.resolve();

  private constructor(
    private readonly folder: string,
    private readonly byKey: Map<string, Finding>,
    private readonly unlock: () => Promise<void> = async () => undefined,
  ) {}

  /** Reads them to add more. Throws `StorageError` while another process does so. */
  static async open(folder: string): Promise<Findings> {
    const unlock = await lockFolder(folder, folder, 'is gathering findings in it');
    try {
      return new Findings(folder, await keptIn(folder), unlock);
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  /** Throws `ConfigError` for a file of something else. */
  static async read(folder: string): Promise<Findings> {
    return new Findings(folder, await keptIn(folder));
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

  /** Drops those under other keys than these, from the file, too. */
  async keepOnly(keys: ReadonlySet<string>): Promise<void> {
    const gone = [...this.byKey.keys()].filter((key) => !keys.has(key));
    for (const key of gone) this.byKey.delete(key);
    if (gone.length > 0) await this.add();
  }

  private write(): Promise<void> {
    // A line a finding, so that a change of one is a change of one line.
    const lines = this.all.map((finding) => JSON.stringify(finding)).join(',\n');
    return writeFileAtomic(join(this.folder, FILE), `{"findings":[\n${lines}\n]}\n`);
  }

  /** Waits for what is being written, and lets others add. */
  async close(): Promise<void> {
    await this.written.finally(() => this.unlock());
  }
}

async function keptIn(folder: string): Promise<Map<string, Finding>> {
  const path = join(folder, FILE);
  const kept = existsSync(path) ? await readFindings(path) : [];
  return new Map(kept.map((finding) => [finding.key, finding]));
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

/** Whether two findings were made the same way. */
export function sameSettings(a: Finding['settings'], b: Finding['settings']): boolean {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => a[name] === b[name]);
}
