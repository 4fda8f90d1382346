/**
 * Exports a model: in Heddle's own format, as a checkpoint of a family that transformers, vLLM and llama.cpp read, or as ONNX. All checks
 * are made before anything is written.
 */
import { join } from 'node:path';
import { readText } from '#platform';
import { expectOptions } from '../arguments.js';
import { openWeights, writeFileAtomic, writeSafetensors } from '../checkpoint/index.js';
import { ConfigError } from '../errors.js';
import { isGguf } from '../gguf.js';
import { fromSafetensors } from '../graph/index.js';
import { parseConfig } from './config.js';
import { formatConfig } from './config-file.js';
import { withDtype, withFractions } from './export-config.js';
import { asKnownFamily, type ForeignModel } from './export-hf.js';
import { writeOnnx } from './export-onnx.js';
import { tensorsToWrite } from './export-weights.js';
import { locateWeights, readModel, readWeights } from './folder.js';
import type { Model } from './model.js';
import { CONFIG_FILE, WEIGHTS_FILE } from './names.js';
import { type StoredDtype, usedTensors } from './stored-weights.js';
import { writeModel } from './write-folder.js';

/** The export formats. */
export const EXPORT_FORMATS = ['heddle', 'hf', 'onnx'] as const;
/** One of `EXPORT_FORMATS`. */
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

/** The options of an export. */
export interface ExportOptions {
  /** By default that of the folder. */
  to?: ExportFormat | undefined;
  /** The dtype of weights; unchanged by default. */
  dtype?: StoredDtype | undefined;
}

/** An export that was checked but not written yet. */
export interface ExportPlan {
  readonly format: ExportFormat;
  readonly model: Model;
  /** The contents of the new config.json. */
  readonly json: Readonly<Record<string, unknown>>;
  /** Notes for users of other software. */
  readonly notes: readonly string[];
  /** Writes config and weights, and the ONNX files for that format, into an empty folder. */
  write(folder: string): Promise<void>;
}

/**
 * Prepares the export of the model in `folder`. Throws `ConfigError` for a model that cannot be exported in this format, and
 * `CheckpointError` for weights that are missing or do not fit the model.
 */
export async function planExport(folder: string, options: ExportOptions = {}): Promise<ExportPlan> {
  expectOptions(options);
  const { to, dtype } = options;
  const model = await readModel(folder);
  await locateWeights(folder, model);
  const isOurs = model.modelType === 'heddle';
  const format = to ?? (isOurs ? 'heddle' : 'hf');
  if (format === 'heddle' && !isOurs) {
    throw new ConfigError(
      `${folder} is a ${model.modelType} model, which Heddle reads as it is: there is no other form of its own to write it in. Write it as hf or onnx.`,
    );
  }
  const foreign = format === 'hf' && isOurs ? foreignModel(folder, model) : undefined;
  return {
    format,
    model,
    json: foreign?.json ?? model.json,
    notes: foreign?.notes ?? [],
    async write(target) {
      await writeWeights(folder, target, { model, format, foreign, dtype });
      if (format === 'onnx') await writeOnnx(target, model);
    },
  };
}

function foreignModel(folder: string, model: Model): ForeignModel {
  try {
    return asKnownFamily(parseConfig(model.json, join(folder, CONFIG_FILE)));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`${folder} cannot be written as hf: ${error.message}`, { cause: error });
  }
}

interface Weighed {
  model: Model;
  format: ExportFormat;
  foreign: ForeignModel | undefined;
  dtype: StoredDtype | undefined;
}

async function writeWeights(
  folder: string,
  target: string,
  { model, format, foreign, dtype }: Weighed,
): Promise<void> {
  if (await isGguf(folder)) {
    const stored = dtype ?? 'F32';
    const typed = { ...model, json: { ...model.json, ...dtypeKeys(stored) } };
    return writeModel(target, typed, await readWeights(folder, model), stored);
  }
  const isOurs = model.modelType === 'heddle' && !foreign;
  const files = await openWeights(folder);
  try {
    const used = await usedTensors(files, model);
    const names = [...files.tensors.keys()].filter((name) => format === 'hf' || used.has(name));
    const tensors = tensorsToWrite(files, names, { ...foreign, dtype });
    const text = foreign
      ? formatConfig({ ...foreign.json, ...dtypeKeys(tensors[0]!.dtype as StoredDtype) })
      : await readText(join(folder, CONFIG_FILE));
    const typed = dtype === undefined ? text : withDtype(text, dtype);
    await writeFileAtomic(join(target, CONFIG_FILE), isOurs ? typed : withFractions(typed));
    await writeSafetensors(join(target, WEIGHTS_FILE), tensors, { format: 'pt' });
  } finally {
    await files.close();
  }
}

/** Older readers know only the second name. */
function dtypeKeys(dtype: StoredDtype): Record<string, string> {
  const name = fromSafetensors(dtype)!;
  return { dtype: name, torch_dtype: name };
}
