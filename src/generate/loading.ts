/** Loading a model's files onto a device: the same for models of text and of other things. */
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

/** Where a model computes, and in which form it is held. */
export interface LoadOptions extends DeviceOptions {
  /** `cpu` by default. */
  device?: Device | DeviceName;
  /** The folder of an adapter (LoRA) that was trained on the model, or of the training run that made it. */
  adapter?: string;
  /** Quantizes the weights while they are read: as `int4` or `int8`, or as said. */
  quantize?: 'int4' | 'int8' | Quantization;
  /** Keeps what grows with a text, keys and values, in 16 or 8 bits a number instead of 32. */
  cache?: CacheForm;
}

/** What the names stand for. */
export const QUANTIZATIONS: Readonly<Record<'int4' | 'int8', Quantization>> = {
  int4: { bits: 4, block: QUANTIZED_BLOCK },
  int8: { bits: 8, block: QUANTIZED_BLOCK },
};

/** A model's files, opened, and the device that it is for. */
export interface OpenedModel {
  readonly folder: string;
  readonly model: Model;
  readonly weights: ReadonlyMap<string, Weight>;
  /** The weights again: what is quantized while it is read need not be held twice. */
  readonly reopen: () => Promise<ReadonlyMap<string, Weight>>;
  readonly device: Device;
  /** Whether the device is the model's, to be disposed of with it. */
  readonly ownsDevice: boolean;
  /** See `LoadOptions`. */
  readonly cache?: CacheForm;
}

/** `loadFrom` for what a person calls the model and the adapter: see `loadModel`. */
export function loadNamed<T>(
  name: string,
  { adapter, ...options }: LoadOptions,
  make: (opened: OpenedModel) => Promise<T>,
): Promise<T> {
  const own = adapter === undefined ? options : { ...options, adapter: checkpointFolder(adapter) };
  return loadFrom(modelFolder(name), own, make);
}

/**
 * Opens the model of a folder, then its device, and makes of both what `make` returns. Where something fails, a device that was opened here
 * is disposed of: on a GPU it holds most of the memory. Throws as `openModel`, `openDevice` and `make` do.
 */
export async function loadFrom<T>(
  folder: string,
  { quantize, adapter, cache, device: asked = 'cpu', ...options }: LoadOptions,
  make: (opened: OpenedModel) => Promise<T>,
): Promise<T> {
  const quantization = typeof quantize === 'string' ? QUANTIZATIONS[quantize] : quantize;
  const { model, weights } = await openModel(folder, adapter, quantization);
  const reopen = async () => (await openModel(folder, adapter, quantization)).weights;
  const opened = { folder, model, weights, reopen, ...(cache && { cache }) };
  if (typeof asked !== 'string') return make({ ...opened, device: asked, ownsDevice: false });
  const device = await openDevice(asked, options);
  try {
    return await make({ ...opened, device, ownsDevice: true });
  } catch (error) {
    await device.dispose();
    throw error;
  }
}
