/** Weights in the shared memory, read straight from their files; programs that use the same ones share them. */
import { DTYPES, Element, type HeldWeight } from '../../graph/index.js';
import { StoredFiles } from '../stored-files.js';
import {
  type HostTensor,
  isQuantized,
  isStored,
  type StoredPart,
  type StoredTensor,
  type Weight,
} from '../tensors.js';
import { WeightFiles, widened } from '../weight-files.js';
import type { SharedMemory } from './memory.js';

/** A weight, and where its parts lie. */
export interface PlacedWeight {
  readonly held: HeldWeight;
  readonly at: Readonly<Partial<Record<'values' | 'codes' | 'scales', number>>>;
}

export class Weights {
  /** By the object that gives them, with how many programs use them. */
  private readonly placed = new Map<Weight, { weight: PlacedWeight; users: number }>();

  constructor(private readonly memory: SharedMemory) {}

  /** Loads what is not there yet. Throws `DeviceError` for a file that is missing, too short or changed, and `DeviceLimitError` where there is no room. */
  async load(weights: ReadonlyMap<string, Weight>): Promise<Map<string, PlacedWeight>> {
    const loaded: Weight[] = [];
    const files = new WeightFiles();
    this.expectRoom(weights);
    const stored = await StoredFiles.open(this.missing(weights));
    try {
      const all = new Map<string, PlacedWeight>();
      for (const [name, weight] of weights) {
        let entry = this.placed.get(weight);
        if (!entry) {
          entry = { weight: await this.place(weight, files), users: 0 };
          this.placed.set(weight, entry);
        }
        entry.users++;
        loaded.push(weight);
        all.set(name, entry.weight);
      }
      await stored.expectUnchanged();
      return all;
    } catch (error) {
      this.release(loaded);
      throw error;
    } finally {
      await files.close();
    }
  }

  /** Throws `DeviceLimitError` where there is no room for what is not there yet. */
  expectRoom(weights: ReadonlyMap<string, Weight>): void {
    this.memory.expectRoom([...this.missing(weights)].reduce((sum, weight) => sum + bytesOf(weight), 0));
  }

  private missing(weights: ReadonlyMap<string, Weight>): Set<Weight> {
    return new Set([...weights.values()].filter((weight) => !this.placed.has(weight)));
  }

  /** Lets go of weights that a program used. */
  release(weights: Iterable<Weight>): void {
    for (const weight of weights) {
      const entry = this.placed.get(weight);
      if (!entry || --entry.users > 0) continue;
      this.placed.delete(weight);
      for (const address of Object.values(entry.weight.at)) this.memory.release(address);
    }
  }

  private async place(weight: Weight, files: WeightFiles): Promise<PlacedWeight> {
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

  /** Memory with the parts of a piece one after the other. */
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

/** What a weight is put into memory as. */
type Piece = keyof PlacedWeight['at'];

/** Parts that lie one after the other, widened to float32 where that is asked. */
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

/** bfloat16 is kept as it is: what computes with it widens it. */
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
