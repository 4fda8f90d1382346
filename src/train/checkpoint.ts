/**
 * Checkpoints of training runs: the folder of a model or an adapter, with the optimizer's moments (`optimizer.safetensors`; where the model's
 * weights are averages over steps, the present ones too; where they are those of an earlier step, those of the last step) and the progress (`training.json`).
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
import { reasonOf } from '../platform/unreadable.js';
import { TEMPLATE_FILE } from '../text/index.js';
import type { TrainingData } from './data.js';
import type { StepEvaluation } from './evaluate.js';
import type { TrainingInput } from './input.js';
import { statesBeside, trainableOf } from './program.js';

const OPTIMIZER = 'optimizer.safetensors';
/** The carried states of the last batch, if batches continue each other. */
const CARRIED = 'carried.safetensors';
const PROGRESS = 'training.json';

/** The inputs of a run that determine its final weights, by a readable name. */
export type RunIdentity = Readonly<Record<string, string | number>>;

const step = z.number().int().nonnegative();

const progressSchema = z.strictObject({
  step,
  run: z.record(z.string(), z.union([z.string(), z.number()])),
  /** The evaluation of the model's weights, where a run keeps the best ones. */
  best: z
    .strictObject({
      step,
      loss: z.number(),
      perplexity: z.number().exactOptional(),
      tokens: z.number(),
      measures: z.record(z.string(), z.number()).exactOptional(),
    })
    .optional(),
});

/** The contents of training.json. */
export type Progress = z.output<typeof progressSchema>;

/** The best evaluation of a phase so far, and the trained weights that it is of. */
export interface Best {
  readonly evaluation: StepEvaluation;
  readonly weights: ReadonlyMap<string, HostTensor>;
}

/** The name of a weight of the last step, where the model has an earlier one. */
function lastValue(name: string): string {
  return `last/${name}`;
}

/**
 * The inputs that a resumed run must have in common with the original one. The number of steps may differ, so that a run can be continued for
 * longer.
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
    keep: ____,
    ...decisive
  } = settings;
  return {
    model: sha256().update(formatConfig(model.json)).digest('hex'),
    ...data.identity,
    ...decisive,
    ...optimizer,
    ...(rates && { rates: JSON.stringify(rates) }),
    ...(precisions && { precisions: JSON.stringify(precisions) }),
    // The last phase may become longer.
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

/** A description of the differences between two runs (digests only by name); empty if there are none. */
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
 * The SHA-256 of a folder's weight files. All bytes are hashed, since checkpoints of one model have equal sizes and headers, and times change
 * with every copy; a gigabyte takes about a second, once for each run.
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
      throw new CheckpointError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
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
 * Writes a checkpoint atomically: only the adapter if one is trained, otherwise the model in the format of its original folder, with tokenizer
 * and other files. `parameters` are those of the phase, which have moments. The model has the weights of `best`, if there are any.
 */
export async function writeCheckpoint(
  input: TrainingInput,
  model: Model,
  parameters: readonly ParameterSpec[],
  values: ReadonlyMap<string, HostTensor>,
  memory: readonly StateSpec[],
  { step, run }: Pick<Progress, 'step' | 'run'>,
  best?: Best,
): Promise<void> {
  const { from, lora, tokenizer, chatTemplate, settings } = input;
  const earlier = best && best.evaluation.step < step ? best.weights : undefined;
  const weights = new Map(
    trainableOf(model).map(({ name }) => [name, earlier?.get(name) ?? values.get(name)!]),
  );
  const beside = parameters.flatMap((spec) => {
    const { name, shape } = spec;
    const states = statesBeside(spec, model, settings.optimizer).map((key) => [key, key] as const);
    const all = earlier ? [...states, [lastValue(name), name] as const] : states;
    return all.map(([key, of]) => ({
      name: key,
      dtype: 'F32' as const,
      shape,
      data: values.get(of)!.data as Float32Array,
    }));
  });
  const progress: Progress = { step, run, ...(best && { best: best.evaluation }) };
  await writeFolderAtomic(join(input.folder, CHECKPOINT), async (temporary) => {
    if (lora && from !== undefined) {
      await writeAdapter(temporary, { model, weights }, lora, from);
      // An empty template takes the place of that of the model.
      if (chatTemplate !== undefined)
        await writeFileAtomic(
          join(temporary, TEMPLATE_FILE),
          chatTemplate === null ? '' : `${chatTemplate}\n`,
        );
    } else {
      if (from === undefined) await writeModel(temporary, model, weights);
      else await writeModelLike(from, temporary, model, weights);
      await tokenizer?.save(temporary);
      if (from !== undefined)
        await copyCompanions(from, temporary, chatTemplate === null ? [TEMPLATE_FILE] : []);
      if (chatTemplate != null) await writeFileAtomic(join(temporary, TEMPLATE_FILE), `${chatTemplate}\n`);
    }
    await writeSafetensors(join(temporary, OPTIMIZER), beside);
    const carried = memory.map(({ name, dtype }) => {
      const { dims: shape, data } = values.get(name)!;
      return { name, dtype: DTYPES[dtype].safetensors, shape, data };
    });
    if (carried.length > 0) await writeSafetensors(join(temporary, CARRIED), carried);
    await writeFileAtomic(join(temporary, PROGRESS), `${JSON.stringify(progress, null, 2)}\n`);
  });
}

/** The contents of a checkpoint. */
export interface Saved {
  step: number;
  /** Parameters, the states beside those trained by the last step, and carried states. */
  values: Map<string, HostTensor>;
  /** The weights of the model, if the run kept the best ones. */
  best?: Best;
}

/**
 * Reads a checkpoint, which has moments of the parameters that its last step trained; `model` includes adapters if they are trained. Throws
 * `CheckpointError` if it is missing or damaged, and `TrainingError`, with the difference, if it is of a run with other inputs.
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
  const { step, best: evaluation } = progress.data;
  const trained = trainedAt(step);
  // A state that begins with these values frees them later.
  const weights = new Map(
    trained.map(({ name, shape }) => [
      name,
      float32((values.get(name)!.data as Float32Array).slice(), shape),
    ]),
  );
  const file = await openSafetensors(join(folder, OPTIMIZER));
  try {
    for (const spec of trained) {
      for (const key of statesBeside(spec, model, input.settings.optimizer)) {
        values.set(key, float32(await file.readFloat32(key), spec.shape));
      }
      if (evaluation && evaluation.step < step)
        values.set(spec.name, float32(await file.readFloat32(lastValue(spec.name)), spec.shape));
    }
  } finally {
    await file.close();
  }
  const isCarried = (await readFolder(folder)).some(({ name }) => name === CARRIED);
  if (isCarried) await readCarried(join(folder, CARRIED), values);
  return { step, values, ...(evaluation && { best: { evaluation, weights } }) };
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

/** Whether a checkpoint's config equals that of the run's model; adapters have no config. */
async function isOf(folder: string, { model, lora }: TrainingInput): Promise<boolean> {
  return lora !== undefined || formatConfig((await readModel(folder)).json) === formatConfig(model.json);
}
