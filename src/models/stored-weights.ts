/** Which stored tensors each parameter of a model is made of: one, its parts, or codes and scales; and reading them. */
import {
  joinPacked,
  openWeights,
  type PackedMatrix,
  type WeightFiles,
  type WeightInfo,
} from '../checkpoint/index.js';
import type { HostTensor } from '../engine/index.js';
import { CheckpointError } from '../errors.js';
import { DTYPES } from '../graph/index.js';
import type { ParameterSpec } from '../nn/index.js';
import { type DecodedWeights, decoded } from './foreign-weights.js';
import { type Model, parametersOf } from './model.js';
import { CONFIG_FILE } from './names.js';
import { codedShapes, codingOf } from './quantization.js';

/** How weights may be stored so that a device reads them by itself; they are float32 in memory. */
export const WEIGHT_DTYPES = ['float32', 'float16', 'bfloat16'] as const;

/** Those dtypes under their names in safetensors files. */
export type StoredDtype = (typeof DTYPES)[(typeof WEIGHT_DTYPES)[number]]['safetensors'];

/** Which of them a dtype of safetensors is; undefined for others. */
export function weightDtype(stored: string): (typeof WEIGHT_DTYPES)[number] | undefined {
  return WEIGHT_DTYPES.find((dtype) => DTYPES[dtype].safetensors === stored);
}

/** The name under which the codes of a quantized parameter are stored. */
export function codesOf(name: string): string {
  return `${name}.codes`;
}

/** The name under which their scales are stored. */
export function scalesOf(name: string): string {
  return `${name}.scales`;
}

/** The parameters of a model, each with the tensors that it is made of. */
export type Located = readonly (readonly [ParameterSpec, readonly Place[]])[];
/** A stored tensor, with its name. */
export type Place = WeightInfo & { readonly name: string };

/**
 * Opens a folder's weights while `use` runs. Throws `CheckpointError` for a tensor that is missing, too many, misshapen, or not of a
 * floating-point dtype.
 */
export async function withWeights<T>(
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
export function isCoded(places: readonly Place[]): boolean {
  return places[0]!.dtype === 'U8';
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

/** The codes of a quantized parameter's parts as one matrix, in the form that kernels read. */
export async function packedParts(files: DecodedWeights, places: readonly Place[]): Promise<PackedMatrix> {
  const parts: PackedMatrix[] = [];
  for (const { name } of places) parts.push(await files.packed(name));
  return joinPacked(parts);
}

/** A parameter in float32, in the shape `dims`; its parts stand one after the other. */
export async function readParts(
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
