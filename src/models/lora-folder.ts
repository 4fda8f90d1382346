/**
 * An adapter's folder in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`, with transformers' module names behind
 * `base_model.model.`. It contains only the changes; the base model stays in its own folder.
 */
import { join, readFolder, readText } from '#platform';
import { openSafetensors, recoverFolder, writeFileAtomic, writeSafetensors } from '../checkpoint/index.js';
import type { Weight } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import { formatConfig, parseConfigText } from './config-file.js';
import { locateWeights, quantizeWeights, readModel } from './folder.js';
import type { Adapted, LoraConfig } from './lora.js';
import { withBase } from './lora-base.js';
import { type AdapterConfig, adapterConfigJson, parseAdapterConfig, peftName } from './lora-config.js';
import { type AdapterParts, readParts } from './lora-parts.js';
import type { Model } from './model.js';
import { ADAPTER_CONFIG_FILE, CONFIG_FILE } from './names.js';
import { fittingBlocks, type Quantization } from './quantization.js';

const ADAPTER_FILE = 'adapter_model.safetensors';

const PREFIX = 'base_model.model.';

/**
 * Reads an adapter for the model in the folder `base`, whose weights are read if the adapter needs them (row norms for DoRA, adapters of the
 * embedding and the head). Throws `CheckpointError` for a folder without an adapter, and for tensors that do not belong to the model;
 * `ConfigError` for an adapter other than LoRA and DoRA.
 */
export async function readAdapter(folder: string, model: Model, base: string): Promise<Adapted> {
  await recoverFolder(folder);
  const config = await readAdapterConfig(folder);
  const path = join(folder, ADAPTER_FILE);
  const file = await openSafetensors(path).catch(async (error: Error) => {
    const names = (await readFolder(folder).catch(() => [])).map(({ name }) => name);
    if (names.includes(ADAPTER_FILE) || !names.includes('adapter_model.bin')) throw error;
    throw new CheckpointError(
      `${folder} has its adapter in adapter_model.bin, a format that is not read: save it as ${ADAPTER_FILE}`,
      { cause: error },
    );
  });
  let parts: AdapterParts;
  try {
    parts = await readParts(file, path, model, config);
  } finally {
    await file.close();
  }
  return withBase(parts, model, base);
}

async function readAdapterConfig(folder: string): Promise<AdapterConfig> {
  const path = join(folder, ADAPTER_CONFIG_FILE);
  const text = await readText(path).catch(async (error: Error) => {
    const names = (await readFolder(folder).catch(() => [])).map(({ name }) => name);
    const what = names.includes(CONFIG_FILE) ? 'is a model, not an adapter' : 'is not an adapter';
    throw new CheckpointError(
      `${folder} ${what}: it has no readable ${ADAPTER_CONFIG_FILE}. Name an adapter's folder, or that of a training run with --lora.`,
      { cause: error },
    );
  });
  return parseAdapterConfig(parseConfigText(text, path), path);
}

/** Writes the adapter of a model `withLora` into an existing folder; `base` is the folder or the name of the base model. */
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
 * Opens a model with its weights, optionally with an adapter, and optionally quantized while loading, with blocks that fit. Throws as
 * `readModel`, `locateWeights` and `readAdapter` do.
 */
export async function openModel(
  folder: string,
  adapter?: string,
  asked?: Quantization,
): Promise<{ model: Model; weights: Map<string, Weight> }> {
  const model = await readModel(folder);
  const quantization = asked && fittingBlocks(model, asked);
  const adapted = adapter === undefined ? undefined : await readAdapter(adapter, model, folder);
  const weights: Map<string, Weight> = quantization
    ? await quantizeWeights(folder, model, quantization)
    : await locateWeights(folder, model);
  for (const [name, weight] of adapted?.weights ?? []) weights.set(name, weight);
  return { model: { ...(adapted?.model ?? model), ...(quantization && { quantization }) }, weights };
}
