/**
 * Loading a checkpoint: how long it takes, and how much memory beside what is then held. The checkpoint is of random
 * weights in bfloat16, written for the occasion; it is loaded in a process of its own.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { countParameters, type Model, parametersOf } from '../models/index.js';
import { LineProcess } from './line-process.js';
import { writeRandomCheckpoint } from './random-checkpoint.js';

const outcomeSchema = z.object({
  seconds: z.number().positive(),
  /** Resident at most while loading, and once a token was read. */
  peakBytes: z.number().positive(),
  heldBytes: z.number().positive(),
});
/** What a process that loads a model says of it: seconds and bytes. */
export type LoadOutcome = z.output<typeof outcomeSchema>;

/** The same, with what was loaded. */
export interface LoadResult extends LoadOutcome {
  name: string;
  parameters: number;
  storedBytes: number;
}

/** Writes such a checkpoint, loads it, and removes it. */
export async function measureLoading(name: string, model: Model, threads: number): Promise<LoadResult> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-load-'));
  try {
    await writeRandomCheckpoint(folder, model);
    const script = fileURLToPath(new URL('./load-process.js', import.meta.url));
    const args = ['--expose-gc', script, folder, String(threads)];
    const child = new LineProcess('loading', process.execPath, args);
    const parameters = countParameters(parametersOf(model));
    return { name, parameters, storedBytes: 2 * parameters, ...(await child.hear(outcomeSchema)) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
