/**
 * Findings: numbers under a key, with everything that is needed to reproduce them. They are kept in one JSON file, which is rewritten
 * after each new finding, so that an interrupted run can be resumed. Findings of other machines are kept in the same file.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson, writeFileAtomic } from '../checkpoint/index.js';
import { ConfigError, StorageError } from '../errors.js';
import { lockFolder } from '../platform/node/lock.js';
import { reasonOf } from '../platform/unreadable.js';
import { IN_WORDS, problemsIn } from '../schema-issues.js';

const machineSchema = z.object({
  cpu: z.string(),
  cores: z.number(),
  memoryBytes: z.number(),
  system: z.string(),
  node: z.string(),
  /** The driver's name of the GPU, if it computed. */
  gpu: z.string().optional(),
});

const findingSchema = z.object({
  /** Such as `ability/mqar-64/hybrid/seed 1`: the section, the subject, and which of several findings. */
  key: z.string(),
  /** The settings that determine the numbers: other settings make another finding. */
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  numbers: z.record(z.string(), z.number()),
  seed: z.number().optional(),
  /** The command that reproduces it. */
  command: z.string(),
  version: z.string(),
  machine: machineSchema,
  device: z.string(),
  /** The precision of a GPU's matrix products, and the threads of a CPU, if they were specified. */
  precision: z.string().optional(),
  threads: z.number().optional(),
  at: z.string(),
  seconds: z.number(),
});

/** The machine of a finding. */
export type Machine = z.output<typeof machineSchema>;
/** A measured result, with all that is needed to reproduce it. */
export type Finding = z.output<typeof findingSchema>;

const fileSchema = z.object({ findings: z.array(findingSchema) });

const FILE = 'findings.json';

/** Parses a finding printed as a line of JSON; undefined if the line is not a JSON object. Throws `ConfigError` for an object that is not a finding. */
export function findingIn(line: string): Finding | undefined {
  const value = parseJson(line);
  if (typeof value !== 'object' || value === null) return undefined;
  const parsed = findingSchema.safeParse(value, IN_WORDS);
  if (parsed.success) return parsed.data;
  throw new ConfigError(`what was found is no finding: ${problemsIn(parsed.error)}`);
}

/** The findings in a folder, to which one process at a time can add. */
export class Findings {
  private written: Promise<void> = Promise.resolve();

  private constructor(
    private readonly folder: string,
    private readonly byKey: Map<string, Finding>,
    private readonly unlock: () => Promise<void> = async () => undefined,
  ) {}

  /** Opens the findings for adding. Throws `StorageError` while another process has them open. */
  static async open(folder: string): Promise<Findings> {
    const unlock = await lockFolder(folder, folder, 'is gathering findings in it');
    try {
      return new Findings(folder, await keptIn(folder), unlock);
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  /** Reads the findings without a lock. Throws `ConfigError` for a file with other content. */
  static async read(folder: string): Promise<Findings> {
    return new Findings(folder, await keptIn(folder));
  }

  get all(): Finding[] {
    return [...this.byKey.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** The earlier finding with this key and the same settings, if any. */
  found({ key, settings }: Pick<Finding, 'key' | 'settings'>): Finding | undefined {
    const before = this.byKey.get(key);
    return before && sameSettings(before.settings, settings) ? before : undefined;
  }

  /** Adds findings. Writes of the file are serialized, so that the last one has all findings. */
  add(...findings: readonly Finding[]): Promise<void> {
    for (const finding of findings) this.byKey.set(finding.key, finding);
    this.written = this.written.then(() => this.write());
    return this.written;
  }

  /** Removes findings with other keys, also from the file. */
  async keepOnly(keys: ReadonlySet<string>): Promise<void> {
    const gone = [...this.byKey.keys()].filter((key) => !keys.has(key));
    for (const key of gone) this.byKey.delete(key);
    if (gone.length > 0) await this.add();
  }

  private write(): Promise<void> {
    // One line per finding, so that version control shows a changed finding as one changed line.
    const lines = this.all.map((finding) => JSON.stringify(finding)).join(',\n');
    return writeFileAtomic(join(this.folder, FILE), `{"findings":[\n${lines}\n]}\n`);
  }

  /** Waits for pending writes, and releases the lock. */
  async close(): Promise<void> {
    await this.written.finally(() => this.unlock());
  }
}

async function keptIn(folder: string): Promise<Map<string, Finding>> {
  const path = join(folder, FILE);
  const kept = existsSync(path) ? await readFindings(path) : [];
  return new Map(kept.map((finding) => [finding.key, finding]));
}

/** Reads the findings of a file that another run wrote. Throws `ConfigError` for a file with other content. */
export async function readFindings(path: string): Promise<Finding[]> {
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new StorageError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  });
  const parsed = fileSchema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data.findings;
  throw new ConfigError(`${path} holds no findings: move it away, or name another folder with --out`);
}

/** Whether two findings have the same settings. */
export function sameSettings(a: Finding['settings'], b: Finding['settings']): boolean {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => a[name] === b[name]);
}
