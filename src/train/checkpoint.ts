/**
 * What a run leaves behind to go on from: a model's folder, or that of an adapter, with the optimizer's moments
 * (`optimizer.safetensors`) and how far it came (`training.json`).
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  openSafetensors,
  openWeights,
  parseJson,
  writeFileAtomic,
  writeFolderAtomic,
  writeSafetensors,
} from '../checkpoint/index.js';
import { float32, type HostTensor } from '../engine/index.js';
import { CheckpointError, TrainingError } from '../errors.js';
import {
  CHECKPOINT,
  copyCompanions,
  formatConfig,
  type Model,
  readAdapter,
  readModel,
  readWeights,
  writeAdapter,
  writeModel,
  writeModelLike,
} from '../models/index.js';
import type { ParameterSpec } from '../nn/index.js';
import type { TrainingInput } from './input.js';
import { firstMoment, secondMoment } from './program.js';

const OPTIMIZER = 'optimizer.safetensors';
const PROGRESS = 'training.json';

const progressSchema = z.strictObject({ step: z.number().int().nonnegative(), fingerprint: z.string() });

export type Progress = z.output<typeof progressSchema>;

/** What a resumed run must agree on with the one that it continues. */
export async function fingerprintOf(input: TrainingInput): Promise<string> {
  const { model, from, lora, training, validation, settings } = input;
  const { evaluateEvery: _, saveEvery: __, optimizer, ...decisive } = settings;
  const sorted = [decisive, optimizer].map((part) =>
    Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  const hash = createHash('sha256').update(formatConfig(model.json)).update(JSON.stringify(sorted));
  for (const tokens of [training, validation]) {
    hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
  }
  if (lora) hash.update(JSON.stringify(['lora', lora.rank, lora.alpha]));
  if (from !== undefined) hash.update(await digestOfWeights(from));
  return hash.digest('hex');
}

/**
 * SHA-256 of the files that hold a folder's weights. All bytes count: checkpoints of one model agree in sizes and headers,
 * times change with every copy, and a gigabyte takes about a second, once a run.
 */
async function digestOfWeights(folder: string): Promise<Buffer> {
  const files = await openWeights(folder);
  const paths = new Set([...files.tensors.values()].map(({ path }) => path));
  await files.close();
  const hash = createHash('sha256');
  for (const path of [...paths].sort()) {
    try {
      for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk);
    } catch (error) {
      throw new CheckpointError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }
  return hash.digest();
}

/**
 * Writes a run's checkpoint, whole or not at all: an adapter alone where that is what was trained, else a model as the
 * folder that it came from stores it, with all that makes it usable.
 */
export async function writeCheckpoint(
  input: TrainingInput,
  model: Model,
  parameters: readonly ParameterSpec[],
  values: ReadonlyMap<string, HostTensor>,
  progress: Progress,
): Promise<void> {
  const { from, lora, tokenizer } = input;
  const weights = new Map(parameters.map(({ name }) => [name, values.get(name)!]));
  const moments = parameters.flatMap(({ name, shape }) =>
    [firstMoment(name), secondMoment(name)].map((key) => ({
      name: key,
      dtype: 'F32' as const,
      shape,
      data: values.get(key)!.data as Float32Array,
    })),
  );
  await writeFolderAtomic(join(input.folder, CHECKPOINT), async (temporary) => {
    if (lora && from !== undefined) {
      await writeAdapter(temporary, { model, weights }, lora, from);
    } else {
      if (from === undefined) await writeModel(temporary, model, weights);
      else await writeModelLike(from, temporary, model, weights);
      await tokenizer.save(temporary);
      if (from !== undefined) await copyCompanions(from, temporary);
    }
    await writeSafetensors(join(temporary, OPTIMIZER), moments);
    await writeFileAtomic(join(temporary, PROGRESS), `${JSON.stringify(progress, null, 2)}\n`);
  });
}

export interface Saved {
  step: number;
  /** Parameters and their moments. */
  values: Map<string, HostTensor>;
}

/**
 * Reads a run's checkpoint. Throws `CheckpointError` where there is none or it is damaged, `TrainingError` where it is of
 * a run with another fingerprint.
 */
export async function readCheckpoint(
  input: TrainingInput,
  parameters: readonly ParameterSpec[],
  fingerprint: string,
): Promise<Saved> {
  const folder = join(input.folder, CHECKPOINT);
  const path = join(folder, PROGRESS);
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new CheckpointError(`there is nothing to resume: ${path} cannot be read. Train without --resume.`, {
      cause: error,
    });
  });
  const progress = progressSchema.safeParse(parseJson(text));
  if (!progress.success) throw new CheckpointError(`${path} is damaged: train anew without --resume`);
  if (progress.data.fingerprint !== fingerprint || !(await isOf(folder, input))) {
    throw new TrainingError(
      `${folder} was trained with another model, corpus or settings: resume with the same ones, or train into another folder`,
    );
  }
  const values = input.lora
    ? new Map((await readAdapter(folder, input.model, input.from!)).weights)
    : await readWeights(folder, input.model);
  const file = await openSafetensors(join(folder, OPTIMIZER));
  try {
    for (const { name, shape } of parameters) {
      if (!values.has(name))
        throw new CheckpointError(`${folder} lacks ${name}: train anew without --resume`);
      for (const key of [firstMoment(name), secondMoment(name)]) {
        values.set(key, float32(await file.readFloat32(key), shape));
      }
    }
  } finally {
    await file.close();
  }
  return { step: progress.data.step, values };
}

/** Whether a checkpoint's config is that of the run's model; an adapter has none. */
async function isOf(folder: string, { model, lora }: TrainingInput): Promise<boolean> {
  return lora !== undefined || formatConfig((await readModel(folder)).json) === formatConfig(model.json);
}
