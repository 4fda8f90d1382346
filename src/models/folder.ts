/** A model's folder, laid out as Hugging Face's: `config.json` and `model.safetensors`. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openSafetensors, recoverFolder, writeFileAtomic, writeSafetensors } from '../checkpoint/index.js';
import type { HostTensor } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import { input, scalar } from '../graph/index.js';
import { ParameterRegistry, type ParameterSpec } from '../nn/index.js';
import { formatConfig, type ModelConfig, parseConfig } from './config.js';
import { forward, type HybridModel, logitsOf } from './hybrid.js';

export const CONFIG_FILE = 'config.json';
export const WEIGHTS_FILE = 'model.safetensors';

/** How weights are stored; they are float32 in memory. */
export type StoredDtype = 'F32' | 'F16' | 'BF16';

/** What a model consists of, in the order of its layers. */
export function parametersOf(model: HybridModel): ParameterSpec[] {
  const registry = new ParameterRegistry();
  const ids = input('ids', 'int64', ['batch', 'sequence']);
  logitsOf(model, registry, forward(model, registry, ids, scalar(0, 'int64')).hidden);
  return [...registry.specs.values()];
}

/** The number of elements of all parameters. */
export function countParameters(specs: readonly ParameterSpec[]): number {
  return specs.reduce((total, { shape }) => total + shape.reduce((a, b) => a * b, 1), 0);
}

/**
 * Reads and checks a folder's `config.json`; whoever reads a model begins here, so a folder that a crash left half
 * replaced is put back first. Throws `CheckpointError` where there is none, `ConfigError` for a wrong one.
 */
export async function readConfig(folder: string): Promise<ModelConfig> {
  await recoverFolder(folder);
  const path = join(folder, CONFIG_FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new CheckpointError(
      `${folder} is not a model: it has no readable ${CONFIG_FILE}. Name a model's folder; a run of 'heddle train' has it in 'checkpoint'.`,
      { cause: error },
    );
  }
  return parseConfig(text, path);
}

/** Reads a model's weights as float32. Throws `CheckpointError` for a tensor that is missing, too many, or misshapen. */
export async function readWeights(folder: string, model: HybridModel): Promise<Map<string, HostTensor>> {
  const path = join(folder, WEIGHTS_FILE);
  const file = await openSafetensors(path);
  try {
    const specs = parametersOf(model);
    const expected = new Set(specs.map(({ name }) => name));
    const surplus = [...file.tensors.keys()].filter((name) => !expected.has(name));
    if (surplus.length > 0) {
      throw new CheckpointError(
        `${path} has the tensor ${surplus[0]}, which the model of its ${CONFIG_FILE} does not have`,
      );
    }
    const weights = new Map<string, HostTensor>();
    for (const { name, shape } of specs) {
      const stored = file.tensors.get(name);
      if (!stored)
        throw new CheckpointError(
          `${path} lacks the tensor ${name}: it does not belong to its ${CONFIG_FILE}`,
        );
      if (stored.shape.join() !== shape.join()) {
        throw new CheckpointError(
          `${path}: the tensor ${name} is [${stored.shape}], but its ${CONFIG_FILE} makes it [${shape}]`,
        );
      }
      weights.set(name, { dtype: 'float32', dims: shape, data: await file.readFloat32(name) });
    }
    return weights;
  } finally {
    await file.close();
  }
}

/** Writes `config.json` and `model.safetensors` into a folder that exists. */
export async function writeModel(
  folder: string,
  config: ModelConfig,
  weights: ReadonlyMap<string, HostTensor>,
  dtype: StoredDtype = 'F32',
): Promise<void> {
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(config));
  await writeSafetensors(
    join(folder, WEIGHTS_FILE),
    [...weights].map(([name, { dims, data }]) => ({ name, dtype, shape: dims, data: data as Float32Array })),
    { format: 'pt' },
  );
}
