/** How long a sequence can get before its state is more than a device can hold. */
import { inBytes } from '../checkpoint/index.js';
import { bytesOfWeight, type Device, mostMemoryOn, type Weight } from '../engine/index.js';
import { DataError } from '../errors.js';
import type { Model } from '../models/index.js';
import { stateBytes } from '../nn/index.js';

/** What a device has for the state of a model's sequence, as far as one knows. */
export class StateRoom {
  /** Bytes that the device can have beside the weights; undefined where it does not say. */
  private readonly bytes: number | undefined;
  /** Positions of the longest sequence that fits. */
  private readonly longest: number;

  /** To be made when the weights are there. */
  constructor(
    private readonly model: Pick<Model, 'state' | 'cache'>,
    private readonly device: Device,
    weights: ReadonlyMap<string, Weight>,
  ) {
    const most = mostMemoryOn(device);
    // A GPU says itself what is in use; it may hold weights in fewer bytes than they are given in.
    const used = device.gpuMemory
      ? device.gpuMemory().reduce((sum, { inUse }) => sum + inUse, 0)
      : Array.from(weights.values(), bytesOfWeight).reduce((a, b) => a + b, 0);
    this.bytes = most && most - used;
    const atOnce = stateBytes(model.state, 0);
    const each = stateBytes(model.state, 1) - atOnce;
    const left = (this.bytes ?? Number.POSITIVE_INFINITY) - atOnce;
    this.longest = each > 0 ? Math.max(0, Math.floor(left / each)) : left < 0 ? 0 : Number.POSITIVE_INFINITY;
  }

  /** Throws `DataError` for a sequence whose state surely does not fit. */
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
