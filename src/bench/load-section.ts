/**
 * Loading a checkpoint: its time, and its peak memory compared with the memory afterwards. The checkpoint has random
 * weights in bfloat16 and is written for the benchmark; it is loaded in a separate process.
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
  /** Peak resident memory during loading, and resident memory after a token was read. */
  peakBytes: z.number().positive(),
  heldBytes: z.number().positive(),
});
/** The result of the loading process, in seconds and bytes. */
export type LoadOutcome = z.output<typeof outcomeSchema>;

/** The result with a description of the model. */
export interface LoadResult extends LoadOutcome {
  name: string;
  parameters: number;
  storedBytes: number;
}

/** Writes a checkpoint of random weights, loads it, and removes it. */
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
