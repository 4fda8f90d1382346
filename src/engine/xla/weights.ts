/** Weights in the devices' memory. Programs share them. */
import { DeviceError } from '../../errors.js';
import {
  asMatrix,
  DTYPES,
  type DType,
  float32ToBfloat16,
  type HloWeight,
  type Precision,
  type TensorData,
} from '../../graph/index.js';
import { SharedWeights } from '../shared-weights.js';
import {
  type HostTensor,
  isQuantized,
  isStored,
  joinedArrays,
  type StoredPart,
  type Weight,
} from '../tensors.js';
import { type WeightFiles, widened } from '../weight-files.js';
import type { PjrtBuffer } from './pjrt.js';

/** A weight, and its buffers on each device. */
export interface PlacedWeight {
  readonly held: HloWeight;
  readonly parts: Readonly<Partial<Record<'weight' | 'codes' | 'scales', readonly PjrtBuffer[]>>>;
}

/** Copies an array to all devices. */
export type Place = (data: TensorData, dtype: DType, dims: readonly number[]) => PjrtBuffer[];

/** Weights on the device, shared by all its programs. */
export class Weights extends SharedWeights<PlacedWeight> {
  /** With products in bfloat16, matrices are stored in bfloat16: only products read them. */
  constructor(
    private readonly place: Place,
    private readonly precision: Precision,
  ) {
    super();
  }

  protected override free({ parts }: PlacedWeight): void {
    for (const buffers of Object.values(parts)) for (const buffer of buffers) buffer.dispose();
  }

  protected override async put(name: string, weight: Weight, files: WeightFiles): Promise<PlacedWeight> {
    if (isQuantized(weight)) {
      const { bits, block, dims } = weight;
      const [rows, columns] = asMatrix(dims);
      const blocks = Math.ceil(columns / block);
      const codes = await bytesOf(weight.codes, files);
      const scales = await float32Of(weight.scales, files);
      const placed = this.place(codes, 'uint8', [rows, (blocks * block * bits) / 8]);
      try {
        return {
          held: { kind: 'packed', bits, block },
          parts: { codes: placed, scales: this.place(scales, 'float32', [rows, blocks]) },
        };
      } catch (error) {
        for (const buffer of placed) buffer.dispose();
        throw error;
      }
    }
    const { dims } = weight;
    const isMatrix = dims.length >= 2 && this.precision === 'bfloat16';
    if (!isStored(weight)) {
      const { dtype, data } = weight;
      if (dtype !== 'float32')
        throw new DeviceError(`the weight '${name}' is ${dtype}: this device takes float32`);
      return this.numbers(data as Float32Array, dims, isMatrix);
    }
    if (isMatrix && weight.parts.every(({ dtype }) => dtype === 'bfloat16')) {
      const halves = await Promise.all(weight.parts.map((part) => bytesOf(part, files)));
      const bytes = joinedArrays(Uint8Array, halves);
      return this.halves(new Uint16Array(bytes.buffer, 0, bytes.byteLength / 2), dims);
    }
    const size = dims.reduce((a, b) => a * b, 1);
    const data = new Float32Array(size);
    let at = 0;
    for (const part of weight.parts) {
      const numbers = await float32Of(part, files);
      data.set(numbers, at);
      at += numbers.length;
    }
    return this.numbers(data, dims, isMatrix);
  }

  private numbers(data: Float32Array, dims: readonly number[], isMatrix: boolean): PlacedWeight {
    if (isMatrix) return this.halves(float32ToBfloat16(data), dims);
    return {
      held: { kind: 'numbers', element: 'f32' },
      parts: { weight: this.place(data, 'float32', dims) },
    };
  }

  private halves(data: Uint16Array, dims: readonly number[]): PlacedWeight {
    return {
      held: { kind: 'numbers', element: 'bf16' },
      parts: { weight: this.place(data, 'bfloat16', dims) },
    };
  }
}

async function bytesOf(part: StoredPart | Uint8Array, files: WeightFiles): Promise<Uint8Array> {
  if (!('path' in part)) return part;
  const bytes = new Uint8Array(part.byteLength);
  await files.read(part, bytes);
  return bytes;
}

async function float32Of(part: StoredPart | HostTensor['data'], files: WeightFiles): Promise<Float32Array> {
  if (!('path' in part)) return part as Float32Array;
  const bytes = await bytesOf(part, files);
  if (part.dtype === 'float32')
    return new Float32Array(bytes.buffer, 0, bytes.byteLength / DTYPES.float32.bytes);
  return widened(bytes, part.dtype);
}
