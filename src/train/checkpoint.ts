/**
 * What a run leaves behind to go on from: a model's folder, or that of an adapter, with the optimizer's moments
 * (`optimizer.safetensors`) and how far it came (`training.json`).
 */
import { z } from 'zod';
import { join, openFile, readFolder, readText, sha256 } from '#platform';
import {
  openSafetensors,
  openWeights,
  parseJson,
  writeFileAtomic,
  writeFolderAtomic,
  writeSafetensors,
} from '../checkpoint/index.js';
import { float32, type HostTensor, type StateSpec } from '../engine/index.js';
import { CheckpointError, TrainingError } from '../errors.js';
import { isGguf, readGguf } from '../gguf.js';
import { DTYPES, fromSafetensors } from '../graph/index.js';
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
import type { TrainingData } from './data.js';
import type { TrainingInput } from './input.js';
import { momentsOf, trainableOf } from './program.js';

const OPTIMIZER = 'optimizer.safetensors';
/** What the rows of the last batch left, where batches go on from each other. */
const CARRIED = 'carried.safetensors';
const PROGRESS = 'training.json';

/** What a run was given that decides which weights it ends with, by its name for a person. */
export type RunIdentity = Readonly<Record<string, string | number>>;

const progressSchema = z.strictObject({
  step: z.number().int().nonnegative(),
  run: z.record(z.string(), z.union([z.string(), z.number()])),
});

/** What a checkpoint says of a run beside its tensors. */
export type Progress = z.output<typeof progressSchema>;

/**
 * What a resumed run must agree on with the one that it continues. How many steps it has is free: to go on for longer
 * is to resume with more of them.
 */
export async function identityOf(input: TrainingInput, data: TrainingData): Promise<RunIdentity> {
  const { model, from, lora, teacher, settings } = input;
  const {
    evaluateEvery: _,
    saveEvery: __,
    steps: ___,
    optimizer,
    rates,
    phases,
    precisions,
    ...decisive
  } = settings;
  return {
    model: sha256().update(formatConfig(model.json)).digest('hex'),
    ...data.identity,
    ...decisive,
    ...optimizer,
    ...(rates && { rates: JSON.stringify(rates) }),
    ...(precisions && { precisions: JSON.stringify(precisions) }),
    // The last phase may go on for longer.
    ...(phases && { phases: JSON.stringify([...phases.slice(0, -1), { ...phases.at(-1), steps: 0 }]) }),
    ...(lora && { rank: lora.rank, alpha: lora.alpha }),
    ...(teacher && {
      'weights of the teacher': await digestOfWeights(teacher.folder),
      'weight of the teacher': teacher.weight,
      'weight of its hidden states': teacher.match,
    }),
    ...(from !== undefined && {
      'weights that it starts from': await digestOfWeights(from),
    }),
  };
}

/** What differs between two runs, for a person: digests by their name alone. Empty where nothing does. */
function differences(then: RunIdentity, now: RunIdentity): string[] {
  const show = (value: string | number | undefined): string => String(value ?? 'none');
  return [...new Set([...Object.keys(then), ...Object.keys(now)])]
    .filter((name) => then[name] !== now[name])
    .map((name) => {
      const isDigest = [then[name], now[name]].some((value) => typeof value === 'string');
      return isDigest ? name : `${name} (then ${show(then[name])}, now ${show(now[name])})`;
    });
}

/**
 * SHA-256 of the files that hold a folder's weights. All bytes count: checkpoints of one model agree in sizes and headers,
 * times change with every copy, and a gigabyte takes about a second, once a run.
 */
async function digestOfWeights(folder: string): Promise<string> {
  const paths = await pathsOfWeights(folder);
  const hash = sha256();
  for (const path of [...paths].sort()) {
    try {
      const file = await openFile(path);
      const chunk = new Uint8Array(2 ** 20);
      for (let at = 0; at < file.size; at += chunk.length) {
        hash.update(chunk.subarray(0, await file.read(chunk, at)));
      }
      await file.close();
    } catch (error) {
      throw new CheckpointError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }
  return hash.digest('hex');
}

async function pathsOfWeights(folder: string): Promise<ReadonlySet<string>> {
  if (await isGguf(folder)) {
    return new Set([...(await readGguf(folder)).tensors.values()].map(({ path }) => path));
  }
  const files = await openWeights(folder);
  await files.close();
  return new Set([...files.tensors.values()].map(({ path }) => path));
}

/**
 * Writes a run's checkpoint, whole or not at all: an adapter alone where that is what was trained, else a model as the
 * folder that it came from stores it, with all that makes it usable. `parameters` are those of the phase, which have moments.
 */
export async function writeCheckpoint(
  input: TrainingInput,
  model: Model,
  parameters: readonly ParameterSpec[],
  values: ReadonlyMap<string, HostTensor>,
  memory: readonly StateSpec[],
  progress: Progress,
): Promise<void> {
  const { from, lora, tokenizer, settings } = input;
  const weights = new Map(trainableOf(model).map(({ name }) => [name, values.get(name)!]));
  const moments = parameters.flatMap((spec) =>
    momentsOf(spec, model, settings.optimizer).map((key) => ({
      name: key,
      dtype: 'F32' as const,
      shape: spec.shape,
      data: values.get(key)!.data as Float32Array,
    })),
  );
  await writeFolderAtomic(join(input.folder, CHECKPOINT), async (temporary) => {
    if (lora && from !== undefined) {
      await writeAdapter(temporary, { model, weights }, lora, from);
    } else {
      if (from === undefined) await writeModel(temporary, model, weights);
      else await writeModelLike(from, temporary, model, weights);
      await tokenizer?.save(temporary);
      if (from !== undefined) await copyCompanions(from, temporary);
    }
    await writeSafetensors(join(temporary, OPTIMIZER), moments);
    const carried = memory.map(({ name, dtype }) => {
      const { dims: shape, data } = values.get(name)!;
      return { name, dtype: DTYPES[dtype].safetensors, shape, data };
    });
    if (carried.length > 0) await writeSafetensors(join(temporary, CARRIED), carried);
    await writeFileAtomic(join(temporary, PROGRESS), `${JSON.stringify(progress, null, 2)}\n`);
  });
}

/** What a run goes on from. */
export interface Saved {
  step: number;
  /** Parameters, the moments of those that the last step trained, and what its rows left. */
  values: Map<string, HostTensor>;
}

/**
 * Reads a run's checkpoint, which has moments of the parameters that its step trained; `model` has the adapters, where they are what
 * is trained. Throws `CheckpointError` where there is none or it is damaged, `TrainingError` where it is of a run that was given something
 * else, and names it.
 */
export async function readCheckpoint(
  input: TrainingInput,
  model: Model,
  trainedAt: (step: number) => readonly ParameterSpec[],
  run: RunIdentity,
): Promise<Saved> {
  const folder = join(input.folder, CHECKPOINT);
  const path = join(folder, PROGRESS);
  const text = await readText(path).catch((error: Error) => {
    throw new CheckpointError(`there is nothing to resume: ${path} cannot be read. Train without --resume.`, {
      cause: error,
    });
  });
  const progress = progressSchema.safeParse(parseJson(text));
  if (!progress.success) throw new CheckpointError(`${path} is damaged: train anew without --resume`);
  const different = differences(progress.data.run, run);
  if (different.length === 0 && !(await isOf(folder, input))) different.push('model');
  if (different.length > 0) {
    throw new TrainingError(
      `${folder} is of a run that differs in ${different.join(', ')}: resume with the same (only the number of steps may change), or start a new run in another folder`,
    );
  }
  const values = input.lora
    ? new Map((await readAdapter(folder, input.model, input.from!)).weights)
    : await readWeights(folder, input.model);
  for (const { name } of trainableOf(model)) {
    if (!values.has(name)) throw new CheckpointError(`${folder} lacks ${name}: train anew without --resume`);
  }
  const { step } = progress.data;
  const file = await openSafetensors(join(folder, OPTIMIZER));
  try {
    for (const spec of trainedAt(step)) {
      for (const key of momentsOf(spec, model, input.settings.optimizer)) {
        values.set(key, float32(await file.readFloat32(key), spec.shape));
      }
    }
  } finally {
    await file.close();
  }
  const isCarried = (await readFolder(folder)).some(({ name }) => name === CARRIED);
  if (isCarried) await readCarried(join(folder, CARRIED), values);
  return { step, values };
}

async function readCarried(path: string, values: Map<string, HostTensor>): Promise<void> {
  const file = await openSafetensors(path);
  try {
    for (const name of file.tensors.keys()) {
      const { dtype, shape, data } = await file.read(name);
      values.set(name, { dtype: fromSafetensors(dtype)!, dims: shape, data: data as HostTensor['data'] });
    }
  } finally {
    await file.close();
  }
}

/** Whether a checkpoint's config is that of the run's model; an adapter has none. */
async function isOf(folder: string, { model, lora }: TrainingInput): Promise<boolean> {
  return lora !== undefined || formatConfig((await readModel(folder)).json) === formatConfig(model.json);
}
