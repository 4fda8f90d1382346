/** The most memory that a device can have, where that is known before an allocation. */
import { mostMemory } from '#platform';
import type { Device } from './program.js';
import { isQuantized, isStored, type StoredPart, type Weight } from './tensors.js';

/** Devices that compute in the process's own memory. */
const ON_HOST = ['cpu', 'wasm'];

/**
 * The bytes that all programs of a device can have together: the memory of the machine or container, limited by the device's address
 * space; or the memory of its GPUs, and of those of the processes that it computes with. Undefined if unknown.
 */
export function mostMemoryOn(device: Device): number | undefined {
  const { name, addressable, group } = device;
  const ofGpus = device.gpuMemory?.().reduce((sum, { limit }) => sum + limit, 0);
  const limits = [
    ON_HOST.includes(name) ? mostMemory() : undefined,
    addressable,
    ofGpus ? ofGpus * (group?.processes ?? 1) : undefined,
  ].filter((limit) => limit !== undefined);
  return limits.length > 0 ? Math.min(...limits) : undefined;
}

/** The bytes of a weight in the form it is given: quantized, in 16 bits, or in float32. */
export function bytesOfWeight(weight: Weight): number {
  const pieces: readonly (ArrayBufferView | StoredPart)[] = isQuantized(weight)
    ? [weight.codes, weight.scales]
    : isStored(weight)
      ? weight.parts
      : [weight.data];
  return pieces.reduce((total, { byteLength }) => total + byteLength, 0);
}
