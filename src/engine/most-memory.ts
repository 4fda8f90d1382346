/** How much memory a device can have at all, where that is known before it is asked for. */
import { mostMemory } from '#platform';
import type { Device } from './program.js';
import { isQuantized, isStored, type StoredPart, type Weight } from './tensors.js';

/** Devices whose memory is that of the process. */
const ON_HOST = ['cpu', 'wasm'];

/**
 * Bytes that all programs of a device can have together at most: of the machine or its container, as far as the device's addresses reach,
 * or of all of its GPUs. Undefined where nobody says.
 */
export function mostMemoryOn(device: Device): number | undefined {
  const { name, addressable } = device;
  const limits = [
    ON_HOST.includes(name) ? mostMemory() : undefined,
    addressable,
    device.gpuMemory?.().reduce((sum, { limit }) => sum + limit, 0) || undefined,
  ].filter((limit) => limit !== undefined);
  return limits.length > 0 ? Math.min(...limits) : undefined;
}

/** Bytes of a weight as it is given: in few bits, in halves, or in full. */
export function bytesOfWeight(weight: Weight): number {
  const pieces: readonly (ArrayBufferView | StoredPart)[] = isQuantized(weight)
    ? [weight.codes, weight.scales]
    : isStored(weight)
      ? weight.parts
      : [weight.data];
  return pieces.reduce((total, { byteLength }) => total + byteLength, 0);
}
