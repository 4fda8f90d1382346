/** Finds the training runs of `heddle train` in folders, and follows their logs. */
import { createHash } from 'node:crypto';
import { open, readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { z } from 'zod';
import { readText } from '#platform';
import { parseJson } from '../checkpoint/index.js';
import {
  CHECKPOINT,
  CONFIG_FILE,
  countParameters,
  METRICS,
  type Model,
  modelFromConfig,
  parametersOf,
  parseConfigText,
} from '../models/index.js';
import type { RunLog, TrainingRun } from './studio-api.js';

const LIVE_MILLISECONDS = 120_000;
/** The depth of subfolders that are searched. */
const DEPTH = 3;
const MOST_RUNS = 500;
/** The most bytes of a log that are read at once. */
const MOST_BYTES = 2 ** 20;

const lineSchema = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('step'),
    step: z.number(),
    loss: z.number(),
    learningRate: z.number(),
    tokensPerSecond: z.number(),
  }),
  z.object({
    event: z.literal('evaluation'),
    step: z.number(),
    loss: z.number(),
    perplexity: z.number().optional(),
  }),
  z.object({ event: z.literal('sample'), step: z.number(), prompt: z.string(), text: z.string() }),
]);

/** The runs in these folders and their subfolders, the most recent first. Missing folders have none. */
export async function findRuns(folders: readonly string[]): Promise<TrainingRun[]> {
  const found = await runFolders(folders);
  const runs = await Promise.all([...found].map(([id, { folder, name }]) => brief(id, folder, name)));
  return runs.flatMap((run) => run ?? []).sort((a, b) => b.updated - a.updated);
}

/** The log of a run after `from`, which is the `next` of the previous answer; undefined if there is no such run. */
export async function readRunLog(
  folders: readonly string[],
  id: string,
  from?: string,
): Promise<RunLog | undefined> {
  const found = (await runFolders(folders)).get(id);
  if (!found) return undefined;
  const file = await open(join(found.folder, METRICS)).catch(() => undefined);
  if (!file) return undefined;
  try {
    const { ino, size } = await file.stat();
    const [inode, offset = 0] = (from ?? '').split('-').map(Number);
    // A resumed run truncates its log to the part that is still valid.
    const anew = from !== undefined && (inode !== ino || !(offset <= size));
    const start = anew || from === undefined ? 0 : offset;
    const bytes = Buffer.alloc(Math.min(MOST_BYTES, size - start));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, start);
    // The last line may be incomplete.
    const end = bytes.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
    const log = parseLog(bytes.toString('utf8', 0, end));
    return { next: `${ino}-${start + end}`, more: end > 0 && start + end < size, anew, ...log };
  } finally {
    await file.close();
  }
}

function parseLog(text: string): Pick<RunLog, 'steps' | 'evaluations' | 'samples'> {
  const log = {
    steps: {
      step: [] as number[],
      loss: [] as number[],
      learningRate: [] as number[],
      tokensPerSecond: [] as number[],
    },
    evaluations: [] as RunLog['evaluations'],
    samples: [] as RunLog['samples'],
  };
  for (const line of text.split('\n')) {
    const entry = lineSchema.safeParse(parseJson(line)).data;
    if (entry?.event === 'step') {
      for (const key of ['step', 'loss', 'learningRate', 'tokensPerSecond'] as const) {
        log.steps[key].push(entry[key]);
      }
    } else if (entry?.event === 'evaluation') {
      log.evaluations.push({ step: entry.step, loss: entry.loss, perplexity: entry.perplexity });
    } else if (entry) {
      log.samples.push({ step: entry.step, prompt: entry.prompt, text: entry.text });
    }
  }
  return log;
}

/** The folders with a log, by run id. */
async function runFolders(roots: readonly string[]): Promise<Map<string, { folder: string; name: string }>> {
  const found = new Map<string, { folder: string; name: string }>();
  const visit = async (root: string, folder: string, depth: number): Promise<void> => {
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    if (found.size >= MOST_RUNS) return;
    if (entries.some((entry) => entry.isFile() && entry.name === METRICS)) {
      const id = createHash('sha256').update(folder).digest('hex').slice(0, 16);
      found.set(id, { folder, name: relative(root, folder) || folder });
      return;
    }
    if (depth === 0) return;
    for (const entry of entries) {
      const passed = entry.name.startsWith('.') || entry.name === 'node_modules';
      if (entry.isDirectory() && !passed) await visit(root, join(folder, entry.name), depth - 1);
    }
  };
  for (const root of roots) await visit(root, root, DEPTH);
  return found;
}

async function brief(id: string, folder: string, name: string): Promise<TrainingRun | undefined> {
  const log = await stat(join(folder, METRICS)).catch(() => undefined);
  if (!log) return undefined;
  const model = (await modelIn(folder)) ?? (await modelIn(join(folder, CHECKPOINT)));
  const updated = log.mtimeMs;
  return {
    id,
    name,
    ...(model && { pattern: model.pattern, parameters: countParameters(parametersOf(model)) }),
    updated,
    live: Date.now() - updated < LIVE_MILLISECONDS,
  };
}

/** The model in a folder, if there is one. Unlike `readModel`, it does not recover a folder that a run may be replacing. */
async function modelIn(folder: string): Promise<Model | undefined> {
  const path = join(folder, CONFIG_FILE);
  try {
    return modelFromConfig(parseConfigText(await readText(path), path), path);
  } catch {
    return undefined;
  }
}
