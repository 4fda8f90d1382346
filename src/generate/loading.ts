/** Loads a model's files onto a device, for models of all kinds of data. */
import { expectOptions } from '../arguments.js';
import {
  type Device,
  type DeviceName,
  type DeviceOptions,
  openDevice,
  type Weight,
} from '../engine/index.js';
import {
  checkpointFolder,
  type Model,
  modelFolder,
  openModel,
  QUANTIZED_BLOCK,
  type Quantization,
} from '../models/index.js';
import type { CacheForm } from '../nn/index.js';

/** The device of a model, and the precision of its weights and cache. */
export interface LoadOptions extends DeviceOptions {
  /** `cpu` by default. */
  device?: Device | DeviceName;
  /** The folder of an adapter (LoRA) for the model, or of the training run that made it. */
  adapter?: string;
  /** Quantizes the weights while they are loaded. */
  quantize?: 'int4' | 'int8' | Quantization;
  /** The precision of the KV cache: 16 or 8 bits instead of 32. */
  cache?: CacheForm;
}

/** The quantizations of these names. */
const QUANTIZATIONS: Readonly<Record<'int4' | 'int8', Quantization>> = {
  int4: { bits: 4, block: QUANTIZED_BLOCK },
  int8: { bits: 8, block: QUANTIZED_BLOCK },
};

/** A model's opened files, and its device. */
export interface OpenedModel {
  readonly folder: string;
  readonly model: Model;
  readonly weights: ReadonlyMap<string, Weight>;
  /** The folder of the adapter's files, if there is one. */
  readonly adapter?: string;
  /** Opens the weights again, so that weights quantized while loading need not be kept in their original form. */
  readonly reopen: () => Promise<ReadonlyMap<string, Weight>>;
  readonly device: Device;
  /** Whether the device is disposed of with the model. */
  readonly ownsDevice: boolean;
  /** See `LoadOptions`. */
  readonly cache?: CacheForm;
}

/** `loadFrom` with the names that `loadModel` accepts. */
export function loadNamed<T>(
  name: string,
  given: LoadOptions,
  make: (opened: OpenedModel) => Promise<T>,
): Promise<T> {
  expectOptions(given);
  const { adapter, ...options } = given;
  const own = adapter === undefined ? options : { ...options, adapter: checkpointFolder(adapter) };
  return loadFrom(modelFolder(name), own, make);
}

/**
 * Opens a model's folder, then its device, and passes both to `make`. If something fails, a device that was opened here is disposed of,
 * since on a GPU it reserves most of the memory. Throws as `openModel`, `openDevice` and `make` do.
 */
export async function loadFrom<T>(
  folder: string,
  { quantize, adapter, cache, device: asked = 'cpu', ...options }: LoadOptions,
  make: (opened: OpenedModel) => Promise<T>,
): Promise<T> {
  const quantization = typeof quantize === 'string' ? QUANTIZATIONS[quantize] : quantize;
  const { model, weights } = await openModel(folder, adapter, quantization);
  const reopen = async () => (await openModel(folder, adapter, quantization)).weights;
  const opened = {
    folder,
    model,
    weights,
    reopen,
    ...(cache && { cache }),
    ...(adapter !== undefined && { adapter }),
  };
  if (typeof asked !== 'string') return make({ ...opened, device: asked, ownsDevice: false });
  const device = await openDevice(asked, options);
  try {
    return await make({ ...opened, device, ownsDevice: true });
  } catch (error) {
    await device.dispose();
    throw error;
  }
}
