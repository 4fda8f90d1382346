/**
 * Loading a checkpoint: how long it takes, and how much memory beside what is then held. The checkpoint is of random
 * weights in bfloat16, written for the occasion; it is loaded in a process of its own.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFileAtomic, writeSafetensors } from '../checkpoint/index.js';
import {
  CONFIG_FILE,
  countParameters,
  formatConfig,
  type Model,
  parametersOf,
  WEIGHTS_FILE,
} from '../models/index.js';
import { ContenderError } from './contender.js';
import type { LoadOutcome } from './load-process.js';

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
    const child = spawnSync(process.execPath, ['--expose-gc', script, folder, String(threads)], {
      encoding: 'utf8',
    });
    if (child.status !== 0) {
      throw new ContenderError(
        `loading ended with ${child.status}: ${child.stderr.trim().split('\n').at(-1)}`,
      );
    }
    const parameters = countParameters(parametersOf(model));
    return { name, parameters, storedBytes: 2 * parameters, ...(JSON.parse(child.stdout) as LoadOutcome) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A checkpoint in bfloat16, made tensor by tensor, so that it may be larger than the memory. */
export async function writeRandomCheckpoint(folder: string, model: Model): Promise<void> {
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(model.json));
  let state = 1;
  const next = (): number => {
    // xorshift32: two bfloat16 a number.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state;
  };
  await writeSafetensors(
    join(folder, WEIGHTS_FILE),
    parametersOf(model).map(({ name, shape }) => ({
      name,
      dtype: 'BF16' as const,
      shape,
      data: () => {
        const size = shape.reduce((a, b) => a * b, 1);
        const halves = new Uint32Array(Math.ceil(size / 2));
        // Sign and fraction at random, exponents of about 2^-6: no two blocks alike, and no infinities.
        for (let i = 0; i < halves.length; i++) halves[i] = (next() & 0x807f807f) | 0x3c803c80;
        return new Uint16Array(halves.buffer, 0, size);
      },
    })),
    { format: 'pt' },
  );
}
