/** Weights in shared memory, read directly from their files. Programs share them. */
import { DTYPES, Element, type HeldWeight } from '../../graph/index.js';
import { type LoadedWeights, SharedWeights } from '../shared-weights.js';
import {
  type HostTensor,
  isQuantized,
  isStored,
  type StoredPart,
  type StoredTensor,
  type Weight,
} from '../tensors.js';
import { type WeightFiles, widened } from '../weight-files.js';
import type { SharedMemory } from './memory.js';

/** A weight, and the addresses of its parts. */
export interface PlacedWeight {
  readonly held: HeldWeight;
  readonly at: Readonly<Partial<Record<'values' | 'codes' | 'scales', number>>>;
}

/** Weights in the kernels' memory, shared by all programs of the device. */
export class Weights extends SharedWeights<PlacedWeight> {
  constructor(private readonly memory: SharedMemory) {
    super();
  }

  /** See `SharedWeights`. Throws `DeviceLimitError` if they do not fit, before anything is read. */
  override async load(weights: ReadonlyMap<string, Weight>): Promise<LoadedWeights<PlacedWeight>> {
    this.expectRoom(weights);
    return super.load(weights);
  }

  /** Throws `DeviceLimitError` if the weights that are not loaded yet do not fit. */
  expectRoom(weights: ReadonlyMap<string, Weight>): void {
    this.memory.expectRoom([...this.missing(weights)].reduce((sum, weight) => sum + bytesOf(weight), 0));
  }

  protected override free({ at }: PlacedWeight): void {
    for (const address of Object.values(at)) this.memory.release(address);
  }

  protected override async put(_: string, weight: Weight, files: WeightFiles): Promise<PlacedWeight> {
    const at: Partial<Record<Piece, number>> = {};
    try {
      for (const [name, piece] of Object.entries(piecesOf(weight)) as [Piece, Values][]) {
        at[name] = await this.fill(piece, files);
      }
    } catch (error) {
      for (const address of Object.values(at)) this.memory.release(address);
      throw error;
    }
    return { held: heldAs(weight), at };
  }

  /** Allocates and fills a block with the parts of a piece, one after the other. */
  private async fill({ parts, isFloat32 }: Values, files: WeightFiles): Promise<number> {
    const address = this.memory.allocate(sizeOf({ parts, isFloat32 }));
    try {
      let at = address;
      for (const part of parts) {
        const size = sizeOf({ parts: [part], isFloat32 });
        if (!('path' in part)) {
          this.memory.bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at);
        } else if (size === part.byteLength) {
          await files.read(part, this.memory.bytes.subarray(at, at + size));
        } else {
          const stored = new Uint8Array(part.byteLength);
          await files.read(part, stored);
          new Float32Array(this.memory.memory.buffer, at, size / 4).set(widened(stored, part.dtype));
        }
        at += size;
      }
    } catch (error) {
      this.memory.release(address);
      throw error;
    }
    return address;
  }
}

/** The pieces of a weight in memory: its values, or its codes and scales. */
type Piece = keyof PlacedWeight['at'];

/** The parts of a piece, and whether they are widened to float32. */
interface Values {
  readonly parts: readonly (StoredPart | HostTensor['data'])[];
  readonly isFloat32: boolean;
}

function piecesOf(weight: Weight): Partial<Record<Piece, Values>> {
  if (isQuantized(weight)) {
    return {
      codes: { parts: [weight.codes], isFloat32: false },
      scales: { parts: [weight.scales], isFloat32: true },
    };
  }
  const parts = isStored(weight) ? weight.parts : [weight.data];
  return { values: { parts, isFloat32: isStored(weight) && !staysHalf(weight) } };
}

function heldAs(weight: Weight): HeldWeight {
  if (isQuantized(weight)) return { kind: 'packed', bits: weight.bits, block: weight.block };
  if (!isStored(weight)) return { kind: 'numbers', element: Element[weight.dtype] };
  return { kind: 'numbers', element: staysHalf(weight) ? Element.bfloat16 : Element.float32 };
}

/** bfloat16 is kept, since its kernels widen it while they compute. */
function staysHalf({ parts }: StoredTensor): boolean {
  return parts.every(({ dtype }) => dtype === 'bfloat16');
}

function sizeOf({ parts, isFloat32 }: Values): number {
  const sizes = parts.map((part) =>
    isFloat32 && 'path' in part ? (part.byteLength / DTYPES[part.dtype].bytes) * 4 : part.byteLength,
  );
  return sizes.reduce((a, b) => a + b, 0);
}

function bytesOf(weight: Weight): number {
  return Object.values(piecesOf(weight)).reduce((sum, piece) => sum + sizeOf(piece), 0);
}
