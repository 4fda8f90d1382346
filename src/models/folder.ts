/** A model's folder, laid out as Hugging Face's: `config.json`, and weights in safetensors files. */
import { dirname, heddleCommand, join, readFolder, readText, statsOf } from '#platform';
import {
  joinPacked,
  openWeights,
  type PackedMatrix,
  type QuantizedBlocks,
  recoverFolder,
  type TensorToWrite,
  type WeightFiles,
  type WeightInfo,
  writeFileAtomic,
  writeSafetensors,
} from '../checkpoint/index.js';
import type { HostTensor, QuantizedTensor, StoredPart, Weight } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import { isGguf, readGguf } from '../gguf.js';
import { DTYPES } from '../graph/index.js';
import type { ParameterPart, ParameterSpec } from '../nn/index.js';
import { formatConfig, modelFromConfig, parseConfigText } from './config-file.js';
import { type DecodedWeights, decoded } from './foreign-weights.js';
import { ggufConfig } from './gguf/config.js';
import { ggufWeights } from './gguf/weights.js';
import { type Model, parametersOf } from './model.js';
import { CHECKPOINT, METRICS, SHIPPED_MODEL } from './names.js';
import {
  codedShapes,
  codingOf,
  expectLayers,
  type Quantization,
  quantizable,
  quantizationJson,
  quantizeMatrix,
} from './quantization.js';

/** The file with a model's config in its folder, as on Hugging Face. */
export const CONFIG_FILE = 'config.json';
/** The file with a model's weights, where they are in one. */
export const WEIGHTS_FILE = 'model.safetensors';
/** What an adapter's folder has in its place (lora-folder.ts). */
export const ADAPTER_CONFIG_FILE = 'adapter_config.json';

/** How weights may be stored so that a device reads them by itself; they are float32 in memory. */
export const WEIGHT_DTYPES = ['float32', 'float16', 'bfloat16'] as const;

/** The same, by their names in safetensors files. */
export type StoredDtype = (typeof DTYPES)[(typeof WEIGHT_DTYPES)[number]]['safetensors'];

function weightDtype(stored: string): (typeof WEIGHT_DTYPES)[number] | undefined {
  return WEIGHT_DTYPES.find((dtype) => DTYPES[dtype].safetensors === stored);
}

/**
 * Reads and checks a folder's `config.json`; whoever reads a model begins here, so a folder that a crash left half
 * replaced is put back first. Throws `CheckpointError` where there is none, `ConfigError` for a wrong one.
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
      : `${folder} is ${await otherThanModel(folder)}`;
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

/** What a folder without a config is, and what to name instead. */
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
 * Where the weights of a model are, for a device to read. Every tensor is held against the model first. Throws
 * `CheckpointError` for one that is missing, too many, misshapen, or not of a floating-point dtype.
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
 * Reads a model's weights as float32, for training. Throws as `locateWeights` does, and `CheckpointError` for quantized
 * ones.
 */
export async function readWeights(folder: string, model: Model): Promise<Map<string, HostTensor>> {
  const weights = new Map<string, HostTensor>();
  await forEachWeight(folder, model, (name, weight) => weights.set(name, weight));
  return weights;
}

/**
 * Reads a model's weights as float32 one after the other, all or those that are `wanted`. Throws as `readWeights` does.
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

/** Writes `config.json` and `model.safetensors` into a folder that exists. */
export async function writeModel(
  folder: string,
  model: Model,
  weights: ReadonlyMap<string, HostTensor>,
  dtype: StoredDtype = 'F32',
): Promise<void> {
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(model.json));
  const tensors = parametersOf(model).flatMap(({ name, shape, parts = [{ name, shape }] }) =>
    cut(weights.get(name)!, parts, dtype),
  );
  await writeSafetensors(join(folder, WEIGHTS_FILE), tensors, { format: 'pt' });
}

/**
 * Writes a model in float32 as the folder `like` stores it: under the same names, and with what that has besides, such as
 * the part of a model that sees images. Left out is what is made from the weights, or repeats them. Parameters that `like`
 * does not have, such as a head that it shares with the embedding, get their own names.
 */
export async function writeModelLike(
  like: string,
  folder: string,
  model: Model,
  weights: ReadonlyMap<string, HostTensor>,
): Promise<void> {
  // A GGUF file's tensors have other names; what is written is a folder.
  if (await isGguf(like)) return writeModel(folder, model, weights);
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(model.json));
  await withWeights(like, await readModel(like), async (files, located) => {
    const stored = new Set(located.map(([{ name }]) => name));
    const added = parametersOf(model).filter(({ name }) => !stored.has(name));
    const own = [
      ...located.flatMap(([{ name }, places]) => cut(weights.get(name)!, places, 'F32')),
      ...added.flatMap((spec) => cut(weights.get(spec.name)!, [spec], 'F32')),
    ];
    const used = new Set(own.map(({ name }) => name));
    const { layers, head } = model.names;
    const others = [...files.tensors].filter(
      ([name]) => !used.has(name) && !name.startsWith(`${layers}.`) && name !== `${head}.weight`,
    );
    const copied = others.map(([name, { dtype, shape }]) => {
      return { name, dtype, shape, data: async () => (await files.read(name)).data };
    });
    await writeSafetensors(join(folder, WEIGHTS_FILE), [...own, ...copied], { format: 'pt' });
  });
}

function codesOf(name: string): string {
  return `${name}.codes`;
}

function scalesOf(name: string): string {
  return `${name}.scales`;
}

/**
 * Reads a model's weights with its matrices quantized, one after the other, so that never all of them are held in float32.
 * `onProgress` is told the share of the bytes that is done.
 */
export async function quantizeWeights(
  folder: string,
  model: Model,
  quantization: Quantization,
  onProgress: (share: number) => void = () => {},
): Promise<Map<string, HostTensor | (QuantizedTensor & QuantizedBlocks)>> {
  if (model.quantization) throw new CheckpointError(`${folder} is quantized already`);
  expectLayers(model, quantization);
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

/** Writes a quantized model into a folder that exists. */
export async function writeQuantized(
  folder: string,
  model: Model,
  quantization: Quantization,
  weights: ReadonlyMap<string, HostTensor | (QuantizedTensor & QuantizedBlocks)>,
): Promise<void> {
  const json = { ...model.json, quantization_config: quantizationJson(quantization) };
  await writeFileAtomic(join(folder, CONFIG_FILE), formatConfig(json));
  const tensors = [...weights].flatMap(([name, weight]): TensorToWrite[] => {
    if (!('codes' in weight)) {
      return [{ name, dtype: 'F32', shape: weight.dims, data: weight.data as Float32Array }];
    }
    const shapes = codedShapes(weight.dims, weight);
    return [
      { name: codesOf(name), dtype: 'U8', shape: shapes[0], data: weight.codes },
      { name: scalesOf(name), dtype: 'F32', shape: shapes[1], data: weight.scales },
    ];
  });
  await writeSafetensors(join(folder, WEIGHTS_FILE), tensors, { format: 'pt' });
}

/** A parameter as its parts, in which it is stored. */
function cut({ data }: HostTensor, parts: readonly ParameterPart[], dtype: StoredDtype): TensorToWrite[] {
  let at = 0;
  return parts.map(({ name, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    at += size;
    return { name, dtype, shape, data: (data as Float32Array).subarray(at - size, at) };
  });
}

/** A parameter's tensors in the files, one or its parts. */
type Located = readonly (readonly [ParameterSpec, readonly Place[]])[];
type Place = WeightInfo & { readonly name: string };

async function withWeights<T>(
  folder: string,
  model: Model,
  use: (files: DecodedWeights, located: Located) => Promise<T>,
): Promise<T> {
  const stored = await openWeights(folder);
  try {
    const files = await decoded(stored, model.foreign);
    return await use(files, locate(files, model));
  } finally {
    await stored.close();
  }
}

/** The names of the stored tensors that a model computes with; others, such as an image encoder's, are only kept. */
export async function usedTensors(stored: WeightFiles, model: Model): Promise<Set<string>> {
  const files = await decoded(stored, model.foreign);
  const names = locate(files, model).flatMap(([, places]) =>
    places.flatMap(({ name }) => files.sources(name)),
  );
  return new Set(names);
}

function locate(files: WeightFiles, model: Model): Located {
  const specs = parametersOf(model);
  const left = new Set(files.tensors.keys());
  const located = specs.map((spec) => {
    const places = placesOf(files, model, spec);
    for (const { name } of places) left.delete(name);
    return [spec, places] as const;
  });
  const surplus = [...left].find((name) => wouldBeLost(model, name));
  if (surplus !== undefined) {
    throw new CheckpointError(
      `${files.path} has the tensor ${surplus}, which the model of its ${CONFIG_FILE} does not have`,
    );
  }
  return located;
}

/** Buffers that old conversions saved, and the model computes itself. */
const BUFFERS = /\.(?:inv_freq|masked_bias|num_batches_tracked|position_ids|cos_cached|sin_cached)$/;

/**
 * Whether a tensor that the model does not ask for is one of those that decide what it computes: something in its layers,
 * such as a bias that its config does not mention, or a whole layer too many; or beside its embedding, final norm or head.
 * What lies elsewhere (the heads of other tasks, draft models, encoders of images) is not needed to write text.
 */
function wouldBeLost({ names, stored, tieWordEmbeddings }: Model, name: string): boolean {
  if (BUFFERS.test(name) || stored?.ignored?.some((pattern) => pattern.test(name))) return false;
  if (tieWordEmbeddings && name === `${names.head}.weight`) return false;
  const aliases = (place: string): string[] =>
    (stored?.aliases?.(`${place}.weight`) ?? []).map((alias) => alias.replace(/\.weight$/, ''));
  return [names.layers, names.embeddings, names.finalNorm, names.head]
    .flatMap((place) => [place, ...aliases(place)])
    .some((place) => name.startsWith(`${place}.`));
}

function placesOf(files: WeightFiles, model: Model, { name, shape, parts }: ParameterSpec): Place[] {
  const find = (wanted: string): Place | undefined => {
    const names = [wanted, ...(model.stored?.aliases?.(wanted) ?? [])];
    const found = names.find((candidate) => files.tensors.has(candidate));
    return found === undefined ? undefined : { ...files.tensors.get(found)!, name: found };
  };
  const codes = model.quantization && files.tensors.get(codesOf(name));
  if (codes) {
    const scales = files.tensors.get(scalesOf(name));
    if (!scales) throw missing(scalesOf(name));
    const expected = codedShapes(shape, codingOf(model, model.quantization!, name));
    return [
      checkedShape({ ...codes, name: codesOf(name) }, 'U8', expected[0]),
      checkedShape({ ...scales, name: scalesOf(name) }, 'F32', expected[1]),
    ];
  }
  const whole = find(name);
  if (whole) {
    // An axis of one entry changes nothing.
    const sizes = (dims: readonly number[]): string => dims.filter((size) => size !== 1).join();
    if (sizes(whole.shape) !== sizes(shape)) {
      throw new CheckpointError(
        `${whole.path}: the tensor ${whole.name} is [${whole.shape}], but its ${CONFIG_FILE} makes it [${shape}]`,
      );
    }
    return checked([whole]);
  }
  const places = parts?.map((part) => {
    const place = find(part.name);
    if (!place) throw missing(part.name);
    return place;
  });
  if (!places) throw missing(name);
  // How the parts are cut is not always the same: what counts is that they are the whole.
  const sizeOf = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);
  const total = places.reduce((sum, place) => sum + sizeOf(place.shape), 0);
  const trailing = shape.slice(-1).join();
  if (total !== sizeOf(shape) || places.some((place) => place.shape.slice(-1).join() !== trailing)) {
    throw new CheckpointError(
      `${places[0]!.path}: the tensors ${places[0]!.name} [${places[0]!.shape}] and on do not make up [${shape}], as its ${CONFIG_FILE} says`,
    );
  }
  return checked(places);

  function missing(tensor: string): CheckpointError {
    const reason =
      files.absent.get(tensor) ?? (parts ?? []).map((part) => files.absent.get(part.name)).find(Boolean);
    if (reason) return new CheckpointError(reason);
    return new CheckpointError(
      `${files.path} lacks the tensor ${tensor}: it does not belong to its ${CONFIG_FILE}`,
    );
  }
}

/** Whether these are the codes and the scales of a quantized matrix. */
function isCoded(places: readonly Place[]): boolean {
  return places[0]!.dtype === 'U8';
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

function checkedShape(place: Place, dtype: string, shape: readonly number[]): Place {
  if (place.dtype === dtype && place.shape.join() === shape.join()) return place;
  throw new CheckpointError(
    `${place.path}: the tensor ${place.name} is ${place.dtype} [${place.shape}], but its ${CONFIG_FILE} makes it ${dtype} [${shape}]`,
  );
}

function checked(places: Place[]): Place[] {
  for (const { path, name, dtype } of places) {
    if (!weightDtype(dtype) && dtype !== 'F64') {
      throw new CheckpointError(
        `${path}: the tensor ${name} is ${dtype}; weights must be F32, F16, BF16 or F64. Take the checkpoint before it was quantized.`,
      );
    }
  }
  return places;
}

async function packedParts(files: DecodedWeights, places: readonly Place[]): Promise<PackedMatrix> {
  const parts: PackedMatrix[] = [];
  for (const { name } of places) parts.push(await files.packed(name));
  return joinPacked(parts);
}

async function readParts(
  files: WeightFiles,
  dims: readonly number[],
  places: readonly Place[],
): Promise<HostTensor> {
  const only = places.length === 1 ? places[0]! : undefined;
  if (only) return { dtype: 'float32', dims, data: await files.readFloat32(only.name) };
  const data = new Float32Array(dims.reduce((a, b) => a * b, 1));
  let at = 0;
  for (const { name, shape } of places) {
    const size = shape.reduce((a, b) => a * b, 1);
    await files.readFloat32Into(name, data.subarray(at, at + size));
    at += size;
  }
  return { dtype: 'float32', dims, data };
}
