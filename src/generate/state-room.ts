/** The length at which a sequence's state exceeds the device's memory. */
import { inBytes } from '../checkpoint/index.js';
import { bytesOfWeight, type Device, mostMemoryOn, type Weight } from '../engine/index.js';
import { DataError } from '../errors.js';
import type { Model } from '../models/index.js';
import { stateBytes } from '../nn/index.js';

/** The memory that a device has for the state of a sequence, as far as it is known. */
export class StateRoom {
  /** The device's memory without the weights, in bytes; undefined if unknown. */
  private readonly bytes: number | undefined;
  /** Positions of the longest sequence that fits. */
  private readonly longest: number;

  /** Create it after the weights are loaded. */
  constructor(
    private readonly model: Pick<Model, 'state' | 'cache'>,
    private readonly device: Device,
    weights: ReadonlyMap<string, Weight>,
  ) {
    const most = mostMemoryOn(device);
    // A GPU reports its memory in use; its weights may be smaller than those of the file.
    const used = device.gpuMemory
      ? device.gpuMemory().reduce((sum, { inUse }) => sum + inUse, 0)
      : Array.from(weights.values(), bytesOfWeight).reduce((a, b) => a + b, 0);
    this.bytes = most && most - used;
    const atOnce = stateBytes(model.state, 0);
    const each = stateBytes(model.state, 1) - atOnce;
    const left = (this.bytes ?? Number.POSITIVE_INFINITY) - atOnce;
    this.longest = each > 0 ? Math.max(0, Math.floor(left / each)) : left < 0 ? 0 : Number.POSITIVE_INFINITY;
  }

  /** Throws `DataError` for a sequence whose state certainly does not fit. */
  expect(positions: number): void {
    if (positions <= this.longest) return;
    const { state, cache } = this.model;
    const need = inBytes(stateBytes(state, positions));
    const smaller = cache ? '' : ', or with a cache of 16 or 8 bits more';
    throw new DataError(
      `the state behind ${positions} tokens takes ${need}, and the ${this.device.name} device has ${inBytes(Math.max(0, this.bytes!))} beside the weights: ${this.longest} tokens fit${smaller}`,
    );
  }
}
