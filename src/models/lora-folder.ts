/**
 * An adapter's folder, laid out as PEFT's: `adapter_config.json` and `adapter_model.safetensors`, whose names are those of
 * transformers' modules behind `base_model.model.`. It holds the changes alone; the model stays in a folder of its own.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  openSafetensors,
  recoverFolder,
  type SafetensorsFile,
  writeFileAtomic,
  writeSafetensors,
} from '../checkpoint/index.js';
import { float32, type HostTensor, type Weight } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import type { LowRank } from '../nn/index.js';
import { formatConfig, parseConfigText } from './config-file.js';
import { ADAPTER_CONFIG_FILE, CONFIG_FILE, locateWeights, quantizeWeights, readModel } from './folder.js';
import { type Adapted, halvesOf, type LinearLayer, type LoraConfig, linearLayers } from './lora.js';
import { type AdapterConfig, adapterConfigJson, parseAdapterConfig, peftName } from './lora-config.js';
import type { Model } from './model.js';
import { fittingBlocks, type Quantization } from './quantization.js';

const ADAPTER_FILE = 'adapter_model.safetensors';

const PREFIX = 'base_model.model.';

/**
 * Reads the adapter in a folder, for this model. Throws `CheckpointError` for a folder that holds none, and for tensors
 * that do not belong to the model's linear layers; `ConfigError` for an adapter that is more than LoRA.
 */
export async function readAdapter(folder: string, model: Model): Promise<Adapted> {
  await recoverFolder(folder);
  const config = await readAdapterConfig(folder);
  const path = join(folder, ADAPTER_FILE);
  const file = await openSafetensors(path).catch(async (error: Error) => {
    const names = await readdir(folder).catch((): string[] => []);
    if (names.includes(ADAPTER_FILE) || !names.includes('adapter_model.bin')) throw error;
    throw new CheckpointError(
      `${folder} has its adapter in adapter_model.bin, a format that is not read: save it as ${ADAPTER_FILE}`,
      { cause: error },
    );
  });
  try {
    return await readHalves(file, path, model, config);
  } finally {
    await file.close();
  }
}

async function readAdapterConfig(folder: string): Promise<AdapterConfig> {
  const path = join(folder, ADAPTER_CONFIG_FILE);
  const text = await readFile(path, 'utf8').catch(async (error: Error) => {
    const names = await readdir(folder).catch((): string[] => []);
    const what = names.includes(CONFIG_FILE) ? 'is a model, not an adapter' : 'is not an adapter';
    throw new CheckpointError(
      `${folder} ${what}: it has no readable ${ADAPTER_CONFIG_FILE}. Name an adapter's folder, or that of a training run with --lora.`,
      { cause: error },
    );
  });
  return parseAdapterConfig(parseConfigText(text, path), path);
}

async function readHalves(
  file: SafetensorsFile,
  path: string,
  model: Model,
  config: AdapterConfig,
): Promise<Adapted> {
  const layers = layersByName(model);
  const weights = new Map<string, HostTensor>();
  const adapters = new Map<string, LowRank>();
  for (const [tensor, { shape }] of file.tensors) {
    const [, name, half] = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/.exec(tensor) ?? [];
    const layer = layers.get(name ?? '');
    if (!layer) throw foreign(path, tensor, model, name);
    if (!config.has(name!)) {
      throw new CheckpointError(
        `${path} has the tensor ${tensor}, but the target_modules of its ${ADAPTER_CONFIG_FILE} do not name that module: they are not of one adapter`,
      );
    }
    const rank = config.rankOf(name!);
    const expected = half === 'A' ? [rank, layer.inputs] : [layer.outputs, rank];
    if (shape.join() !== expected.join()) {
      throw new CheckpointError(
        `${path}: the tensor ${tensor} is [${shape}], but the model and ${ADAPTER_CONFIG_FILE} make it [${expected}]: use the model that it was trained on`,
      );
    }
    const { a, b } = halvesOf(layer.module);
    weights.set(half === 'A' ? a : b, float32(await file.readFloat32(tensor), shape));
    adapters.set(layer.module, { rank, scale: config.scaleOf(name!) });
  }
  for (const module of adapters.keys()) {
    const { a, b } = halvesOf(module);
    if (weights.has(a) && weights.has(b)) continue;
    throw new CheckpointError(`${path} has only one of the two halves of ${module}: save the adapter again`);
  }
  if (adapters.size === 0) throw new CheckpointError(`${path} is empty: save the adapter again`);
  return { model: { ...model, adapters: (module) => adapters.get(module) }, weights };
}

/** Linear layers by the names that PEFT may have for them: transformers' own, and those that checkpoints use. */
function layersByName(model: Model): Map<string, LinearLayer> {
  const layers = new Map<string, LinearLayer>();
  for (const layer of linearLayers(model)) {
    const weight = `${layer.module}.weight`;
    const stored = (model.stored?.aliases?.(weight) ?? []).filter((name) => name.endsWith('.weight'));
    for (const name of stored) layers.set(name.slice(0, -'.weight'.length), layer);
    layers.set(layer.module, layer);
    layers.set(peftName(model, layer.module), layer);
  }
  return layers;
}

function foreign(path: string, tensor: string, model: Model, module: string | undefined): CheckpointError {
  const { names } = model;
  const what =
    [names.head, peftName(model, names.embeddings)].includes(module ?? '') ||
    /\.lora_embedding_[AB]$/.test(tensor)
      ? 'adapters of the embedding and of the head are not read. Merge it into its model where it was made'
      : module === undefined
        ? 'which is no half of a low-rank adapter. Merge it into its model where it was made'
        : `but ${module} is no linear layer of this ${model.modelType} model: use the model that it was trained on, or merge it where it was made`;
  return new CheckpointError(`${path} has the tensor ${tensor}, ${what}`);
}

/** Writes the adapter of a model `withLora` into a folder that exists; `base` is the folder or the name of its model. */
export async function writeAdapter(
  folder: string,
  { model, weights }: Adapted,
  lora: LoraConfig,
  base: string,
): Promise<void> {
  const json = adapterConfigJson(model, lora, base);
  await writeFileAtomic(join(folder, ADAPTER_CONFIG_FILE), formatConfig(json));
  const tensors = Array.from(weights, ([name, { dims, data }]) => ({
    name: PREFIX + peftName(model, name),
    dtype: 'F32' as const,
    shape: dims,
    data: data as Float32Array,
  }));
  await writeSafetensors(join(folder, ADAPTER_FILE), tensors, { format: 'pt' });
}

/**
 * The model in a folder, with the adapter in another where one is named, and where its weights are; quantized while they are
 * read where that is asked for, in blocks that fit. Throws as `readModel`, `locateWeights` and `readAdapter` do.
 */
export async function openModel(
  folder: string,
  adapter?: string,
  asked?: Quantization,
): Promise<{ model: Model; weights: Map<string, Weight> }> {
  const model = await readModel(folder);
  const quantization = asked && fittingBlocks(model, asked);
  const adapted = adapter === undefined ? undefined : await readAdapter(adapter, model);
  const weights: Map<string, Weight> = quantization
    ? await quantizeWeights(folder, model, quantization)
    : await locateWeights(folder, model);
  for (const [name, weight] of adapted?.weights ?? []) weights.set(name, weight);
  return { model: { ...(adapted?.model ?? model), ...(quantization && { quantization }) }, weights };
}
