/**
 * States in shared memory. A value that a run replaces has a block of its own, which forks share; a run writes the new value to another
 * block, so that a run that fails leaves the old one unchanged. A growing value has pages of 64 entries, which forks share too: a run
 * appends to the last page, or to a copy of it if it is shared (copy on write).
 */
import { DeviceError } from '../../errors.js';
import { DTYPES, PAGE_ENTRIES } from '../../graph/index.js';
import { Lifetime } from '../lifetime.js';
import { type State, type StateSpec, stateDims } from '../program.js';
import type { HostTensor, TensorData } from '../tensors.js';
import type { SharedMemory } from './memory.js';

/** A reference-counted block, which values of several states may share. */
export class Block {
  private users = 1;

  constructor(
    private readonly memory: SharedMemory,
    readonly bytes: number,
    readonly address = memory.allocate(bytes),
  ) {}

  get isShared(): boolean {
    return this.users > 1;
  }

  share(): this {
    this.users++;
    return this;
  }

  release(): void {
    if (--this.users === 0) this.memory.release(this.address);
  }

  copy(): Block {
    const copy = new Block(this.memory, this.bytes);
    this.memory.bytes.copyWithin(copy.address, this.address, this.address + this.bytes);
    return copy;
  }
}

/** A state's value: one block, or pages of entries. */
export interface KeptValue {
  readonly spec: StateSpec;
  blocks: Block[];
}

/** The layout of a growing value's pages: [outer, 64, inner], with `bytes` for each inner part. */
function entrySizes(spec: StateSpec): { outer: number; bytes: number } {
  const dims = stateDims(spec, 1);
  const size = (part: readonly number[]): number => part.reduce((a, b) => a * b, 1);
  return {
    outer: size(dims.slice(0, spec.grows!)),
    bytes: size(dims.slice(spec.grows! + 1)) * DTYPES[spec.dtype].bytes,
  };
}

/** Bytes of a page of a growing state, which holds `PAGE_ENTRIES` entries. */
export function pageBytes(spec: StateSpec): number {
  const { outer, bytes } = entrySizes(spec);
  return outer * bytes * PAGE_ENTRIES;
}

function release(values: ReadonlyMap<string, KeptValue>): void {
  for (const { blocks } of values.values()) for (const block of blocks) block.release();
}

/** Frees the memory of states that are garbage-collected without having been disposed of. */
const dropped = new FinalizationRegistry(release);

/** The state of one sequence. Forks share its blocks until one of them is written to. */
export class WasmState implements State {
  readonly life = new Lifetime(() => {
    dropped.unregister(this);
    release(this.values);
  });

  constructor(
    /** The memory that contains it: only the device of this memory can run it. */
    readonly memory: SharedMemory,
    readonly values: ReadonlyMap<string, KeptValue>,
    public length: number,
  ) {
    dropped.register(this, values, this);
  }

  get bytes(): number {
    let total = 0;
    for (const bytes of this.holdings.values()) total += bytes;
    return total;
  }

  get holdings(): ReadonlyMap<object, number> {
    if (this.life.isOver) return new Map();
    const all = [...this.values.values()].flatMap(({ blocks }) => blocks);
    return new Map(all.map((block) => [block, block.bytes]));
  }

  fork(): State {
    this.expectAlive();
    const values = Array.from(this.values, ([name, { spec, blocks }]) => {
      return [name, { spec, blocks: blocks.map((block) => block.share()) }] as const;
    });
    return new WasmState(this.memory, new Map(values), this.length);
  }

  async read(names: readonly string[] = [...this.values.keys()]): Promise<Map<string, HostTensor>> {
    this.expectAlive();
    return new Map(
      names.map((name) => {
        const value = this.values.get(name);
        if (!value) throw new DeviceError(`the state holds no '${name}'`);
        return [name, this.copyOf(value)];
      }),
    );
  }

  dispose(): void {
    this.life.dispose();
  }

  /** Throws `DeviceError` if it was disposed of. */
  expectAlive(): void {
    if (this.life.isOver) throw new DeviceError('this state was disposed of');
  }

  private copyOf({ spec, blocks }: KeptValue): HostTensor {
    const dims = stateDims(spec, this.length);
    const { bytes: all } = this.memory;
    const bytes = new Uint8Array(dims.reduce((a, b) => a * b, 1) * DTYPES[spec.dtype].bytes);
    if (spec.grows === undefined) {
      const { address } = blocks[0]!;
      bytes.set(all.subarray(address, address + bytes.length));
    } else {
      const { outer, bytes: entry } = entrySizes(spec);
      for (const [i, { address }] of blocks.entries()) {
        const first = i * PAGE_ENTRIES;
        const count = Math.min(PAGE_ENTRIES, this.length - first);
        if (count <= 0) break;
        for (let j = 0; j < outer; j++) {
          const from = address + j * PAGE_ENTRIES * entry;
          bytes.set(all.subarray(from, from + count * entry), (j * this.length + first) * entry);
        }
      }
    }
    const data = new DTYPES[spec.dtype].array(bytes.buffer) as TensorData;
    return { dtype: spec.dtype, dims, data };
  }
}

/** A value copied from a tensor of one row (a growing one with `length` entries, and possibly spare room), or the initial value. */
export function newValue(
  memory: SharedMemory,
  spec: StateSpec,
  initial: HostTensor | undefined,
  length: number,
): KeptValue {
  const given =
    initial && new Uint8Array(initial.data.buffer, initial.data.byteOffset, initial.data.byteLength);
  if (spec.grows === undefined) {
    const dims = stateDims(spec, 0);
    const size = dims.reduce((a, b) => a * b, 1);
    const block = new Block(memory, size * DTYPES[spec.dtype].bytes);
    if (given) memory.bytes.set(given, block.address);
    else fill(memory, block.address, spec, size);
    return { spec, blocks: [block] };
  }
  const { outer, bytes } = entrySizes(spec);
  const blocks: Block[] = [];
  try {
    for (let first = 0; first < length; first += PAGE_ENTRIES) {
      const block = new Block(memory, outer * bytes * PAGE_ENTRIES);
      blocks.push(block);
      if (!given) {
        fill(memory, block.address, spec, block.bytes / DTYPES[spec.dtype].bytes);
        continue;
      }
      const room = initial!.dims[spec.grows]!;
      const count = Math.min(PAGE_ENTRIES, length - first);
      for (let j = 0; j < outer; j++) {
        const from = (j * room + first) * bytes;
        memory.bytes.set(
          given.subarray(from, from + count * bytes),
          block.address + j * PAGE_ENTRIES * bytes,
        );
      }
    }
  } catch (error) {
    for (const block of blocks) block.release();
    throw error;
  }
  return { spec, blocks };
}

function fill(memory: SharedMemory, address: number, { dtype, initial }: StateSpec, size: number): void {
  const array = new DTYPES[dtype].array(memory.memory.buffer as ArrayBuffer, address, size);
  if (array instanceof BigInt64Array) array.fill(BigInt(initial));
  else array.fill(initial);
}
