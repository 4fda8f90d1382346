/** What still writes by a loop in the graph, until tokens are written one a call. */
import type { Tensor } from '../../graph/index.js';
import type { OrtName as DeviceName, DeviceOptions } from '../program.js';
import type { HostTensor, Weight } from '../tensors.js';

export type { DeviceName, DeviceOptions };

/** How a carried input changes with a run. */
export type Carry =
  /** It becomes the value of `next`. */
  | { readonly kind: 'replace'; readonly next: Tensor }
  /**
   * It is a buffer that holds memory.length entries along `axis`, and room for more; `rows` are written behind them.
   * Only the new rows are moved.
   */
  | { readonly kind: 'append'; readonly rows: Tensor; readonly axis: number };

/** What a run gives back, and how it changes the memory. */
export interface Part {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** By input name. */
  readonly carried?: Readonly<Record<string, Carry>>;
}

export interface Program extends Part {
  /** What runs may give back instead, by a name of their own. They carry the same inputs, in the same ways. */
  readonly others?: Readonly<Record<string, Part>>;
  /** Inputs that never change, by name: they become part of the compiled program. */
  readonly weights?: ReadonlyMap<string, Weight>;
  /** Inputs that set a size, and need not be used for anything else. */
  readonly sizes?: readonly Tensor[];
  /** Symbolic dimensions that are fixed: what follows from them is computed once, when the program is compiled. */
  readonly dims?: Readonly<Record<string, number>>;
}

export interface Memory {
  /** Entries along the axis of appended values. */
  readonly length: number;
  /** Bytes that the carried values take now, room for more included. */
  readonly bytes: number;
  /** Copies of the carried values (of `names`, or all). Appended ones without the room behind their entries. */
  read(names?: readonly string[]): Promise<Map<string, HostTensor>>;
  /**
   * What it holds now, to take up again. On the cpu nothing is copied; on webgpu what a run replaces is brought back to
   * JavaScript's memory.
   */
  snapshot(): Promise<MemorySnapshot>;
  /** The same for a while: on webgpu too nothing is copied, and the device's memory is taken until it is disposed of. */
  hold(): MemorySnapshot;
  /** Makes it hold what a snapshot holds, of it or of another memory of the same program. Throws `DeviceError` for others. */
  restore(snapshot: MemorySnapshot): void;
  dispose(): void;
}

/** What a memory held at one time; it never changes. */
export interface MemorySnapshot {
  /** Entries along the axis of appended values. */
  readonly length: number;
  /** Bytes of the values, which it may share with other snapshots and memories. */
  readonly bytes: number;
  /** Bytes by what takes them: that which two snapshots share is one key in both. */
  readonly holdings: ReadonlyMap<object, number>;
  /** As `Memory.read`. */
  read(names?: readonly string[]): Promise<Map<string, HostTensor>>;
  /** A memory that holds this, and goes on from it. */
  memory(): Memory;
  /** Lets go of what it holds; what others share stays. */
  dispose(): void;
}

export interface Executable {
  /** Bytes of the program itself, weights aside. */
  readonly programBytes: number;
  /** The names of what it must be fed, carried values included. */
  readonly inputs: ReadonlySet<string>;
  /**
   * A memory with these initial values, which it takes over: they are its own from now on, and are freed when they were
   * replaced. `length` says how many entries appended ones hold.
   */
  allocate(initial: ReadonlyMap<string, HostTensor>, length?: number): Memory;
  /**
   * Runs once. Inputs come from the feeds and from the memory, which another program may have allocated: what this one
   * does not carry it only reads. With the name of one of the program's `others` it gives back that. Throws `DeviceError` for a
   * feed that is missing, unknown, or of another type.
   */
  run(
    feeds: Readonly<Record<string, HostTensor>>,
    memory?: Memory,
    other?: string,
  ): Promise<Record<string, HostTensor>>;
  dispose(): Promise<void>;
}

export interface Device {
  readonly name: DeviceName;
  /** Carried values come back to JavaScript after each run, so it pays to do several steps in one. */
  readonly copiesCarried: boolean;
  compile(program: Program): Promise<Executable>;
}
