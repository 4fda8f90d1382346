/** A model's folder in Hugging Face's layout: `config.json`, and weights in safetensors files. */
import { dirname, heddleCommand, join, readFolder, readText, statsOf } from '#platform';
import { type QuantizedBlocks, recoverFolder } from '../checkpoint/index.js';
import type { HostTensor, QuantizedTensor, StoredPart, Weight } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import { isGguf, readGguf } from '../gguf.js';
import { modelFromConfig, parseConfigText } from './config-file.js';
import { ggufConfig } from './gguf/config.js';
import { ggufWeights } from './gguf/weights.js';
import { expectLayers } from './layer-letters.js';
import { type Model, parametersOf } from './model.js';
import { ADAPTER_CONFIG_FILE, CHECKPOINT, CONFIG_FILE, METRICS, SHIPPED_MODEL } from './names.js';
import { codingOf, type Quantization, quantizable, quantizeMatrix } from './quantization.js';
import { isCoded, type Place, packedParts, readParts, weightDtype, withWeights } from './stored-weights.js';

/**
 * Reads and validates a folder's `config.json`. Reading a model begins here, so a folder that a crash left half replaced is recovered first.
 * Throws `CheckpointError` if it is missing, `ConfigError` if it is invalid.
 */
export async function readModel(folder: string): Promise<Model> {
  if (await isGguf(folder)) return modelFromConfig(await ggufConfig(await readGguf(folder)), folder);
  await recoverFolder(folder);
  const path = join(folder, CONFIG_FILE);
  let text: string;
  try {
    text = await readText(path);
  } catch (error) {
    const run = dirname(folder);
    const isBegun =
      folder === join(run, CHECKPOINT) && !(await isThere(folder)) && (await isThere(join(run, METRICS)));
    const what = isBegun
      ? `${run} has no checkpoint yet: its training is under way, or ended before its first one`
      : `${folder === '' ? "''" : folder} is ${await otherThanModel(folder)}`;
    throw new CheckpointError(what, { cause: error });
  }
  return modelFromConfig(parseConfigText(text, path), path);
}

async function isThere(path: string): Promise<boolean> {
  return statsOf(path).then(
    () => true,
    () => false,
  );
}

/** The error for a folder without a config, with a hint. */
async function otherThanModel(folder: string): Promise<string> {
  const there = await statsOf(folder).catch(() => undefined);
  if (there === undefined) {
    return `not a model: there is no such folder. Name a model's folder, that of a training run, or ${SHIPPED_MODEL}, which comes with Heddle; '${heddleCommand()} pull <owner/name>' downloads others.`;
  }
  if (there.kind !== 'folder') return "a file, not a model: name the folder that holds the model's files";
  const entries = await readFolder(folder).catch(() => []);
  if (entries.some(({ name }) => name === ADAPTER_CONFIG_FILE)) {
    return 'an adapter, not a model: name the model that it was trained on, and the adapter with --adapter';
  }
  return `not a model: it has no readable ${CONFIG_FILE}. Name a model's folder, or that of a training run.`;
}

/**
 * Locates the weights of a model in its files, for a device to read. All tensors are checked first. Throws `CheckpointError` for a tensor that
 * is missing, unexpected, of a wrong shape, or not of a floating-point dtype.
 */
export async function locateWeights(folder: string, model: Model): Promise<Map<string, Weight>> {
  if (await isGguf(folder)) {
    const weights = new Map<string, Weight>();
    for await (const [name, weight] of ggufWeights(folder, model, true)) weights.set(name, weight);
    return weights;
  }
  return withWeights(folder, model, async (files, located) => {
    const weights = new Map<string, Weight>();
    const mayBePacked = model.foreign ? quantizable(model, { bits: 4, block: 32 }) : new Set();
    for (const [{ name, shape }, places] of located) {
      if (isCoded(places)) {
        weights.set(name, quantizedTensor(codingOf(model, model.quantization!, name), shape, places));
        continue;
      }
      if (places.some((place) => files.isCoded(place.name))) {
        const isPacked = mayBePacked.has(name) && places.every((place) => files.isCoded(place.name));
        weights.set(
          name,
          isPacked
            ? { dims: shape, ...(await packedParts(files, places)) }
            : await readParts(files, shape, places),
        );
        continue;
      }
      const parts = places.map(({ path, byteOffset, byteLength, dtype, version }) => {
        return { path, byteOffset, byteLength, dtype: weightDtype(dtype), version };
      });
      const mappable = parts.every((part) => part.dtype !== undefined);
      weights.set(
        name,
        mappable ? { dims: shape, parts: parts as StoredPart[] } : await readParts(files, shape, places),
      );
    }
    return weights;
  });
}

/**
 * Reads a model's weights as float32, for training. Throws as `locateWeights` does, and `CheckpointError` for quantized weights.
 */
export async function readWeights(folder: string, model: Model): Promise<Map<string, HostTensor>> {
  const weights = new Map<string, HostTensor>();
  await forEachWeight(folder, model, (name, weight) => weights.set(name, weight));
  return weights;
}

/**
 * Reads a model's weights (all, or the `wanted` ones) as float32, one at a time. Throws as `readWeights` does.
 */
export async function forEachWeight(
  folder: string,
  model: Model,
  use: (name: string, weight: HostTensor) => void,
  wanted: (name: string) => boolean = () => true,
): Promise<void> {
  if (model.quantization) {
    throw new CheckpointError(`${folder} is quantized: take the model that it was made from`);
  }
  if (await isGguf(folder)) {
    for await (const [name, weight] of ggufWeights(folder, model, false)) {
      if (wanted(name)) use(name, weight as HostTensor);
    }
    return;
  }
  await withWeights(folder, model, async (files, located) => {
    for (const [{ name, shape }, places] of located) {
      if (wanted(name)) use(name, await readParts(files, shape, places));
    }
  });
}

/**
 * Reads a model's weights and quantizes its matrices, one at a time, so that they are never all in memory as float32. `onProgress` is called
 * with the fraction of bytes done.
 */
export async function quantizeWeights(
  folder: string,
  model: Model,
  quantization: Quantization,
  onProgress: (share: number) => void = () => {},
): Promise<Map<string, HostTensor | (QuantizedTensor & QuantizedBlocks)>> {
  if (model.quantization) throw new CheckpointError(`${folder} is quantized already`);
  expectLayers(model, quantization.layers);
  const chosen = quantizable(model, quantization);
  if (await isGguf(folder)) {
    const weights = new Map<string, HostTensor | (QuantizedTensor & QuantizedBlocks)>();
    for await (const [name, weight] of ggufWeights(folder, model, false)) {
      const read = weight as HostTensor;
      weights.set(
        name,
        chosen.has(name) ? quantizeMatrix(name, read, codingOf(model, quantization, name)) : read,
      );
      onProgress(weights.size / parametersOf(model).length);
    }
    return weights;
  }
  return withWeights(folder, model, async (files, located) => {
    const weights = new Map<string, HostTensor | (QuantizedTensor & QuantizedBlocks)>();
    const sizeOf = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);
    const total = located.reduce((sum, [{ shape }]) => sum + sizeOf(shape), 0);
    let done = 0;
    for (const [{ name, shape }, places] of located) {
      const read = await readParts(files, shape, places);
      weights.set(
        name,
        chosen.has(name) ? quantizeMatrix(name, read, codingOf(model, quantization, name)) : read,
      );
      done += sizeOf(shape);
      onProgress(done / total);
    }
    return weights;
  });
}

function quantizedTensor(
  { bits, block }: Pick<Quantization, 'bits' | 'block'>,
  shape: readonly number[],
  places: readonly Place[],
): QuantizedTensor {
  const [codes, scales] = places.map(({ path, byteOffset, byteLength, version }, i): StoredPart => {
    return { path, byteOffset, byteLength, dtype: i === 0 ? 'uint8' : 'float32', version };
  }) as [StoredPart, StoredPart];
  return { dims: shape, bits, block, codes, scales };
}
