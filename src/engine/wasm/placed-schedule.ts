/** A schedule in memory, with the addresses of its inputs, outputs and states. */
import { DeviceError } from '../../errors.js';
import {
  type Buffer,
  DTYPES,
  type Lowered,
  PAGE_ENTRIES,
  type Tensor,
  type TensorData,
} from '../../graph/index.js';
import type { StateSpec } from '../program.js';
import type { HostTensor } from '../tensors.js';
import type { WasmDevice } from './device.js';
import type { PlannedStep, Schedule } from './schedule.js';
import { Block, type KeptValue, pageBytes, type WasmState } from './state.js';

/** A state of a program, and its tensors before and after a run. */
export interface ProgramState {
  readonly spec: StateSpec;
  readonly before: Tensor;
  readonly after: Tensor;
}

/** A new value of a row's state, which is committed when the run succeeds. */
interface Change {
  keep(): void;
  undo(): void;
}

/** A schedule that is ready to run. */
export class PlacedSchedule {
  /** Entries that a run appends to growing states. */
  readonly appended: number;
  private readonly inputs: ReadonlyMap<string, number>;
  /** The page tables of growing states, by row, and their capacity in pages. */
  private readonly pageTables = new Map<string, { address: number; room: number }>();

  constructor(
    private readonly device: WasmDevice,
    private readonly states: readonly ProgramState[],
    private readonly lowered: Lowered,
    readonly steps: readonly PlannedStep[],
    readonly schedule: Schedule,
    private readonly addressOf: (buffer: Buffer) => number,
    private readonly tables: number,
    private readonly rows: number,
    private readonly owned: readonly number[],
  ) {
    this.inputs = new Map(Array.from(lowered.inputs, ([name, buffer]) => [name, addressOf(buffer)]));
    const counts = new Set(lowered.appended.filter((count) => count !== undefined));
    if (counts.size > 1) {
      throw new DeviceError(`the growing states grew by different numbers of entries: ${[...counts]}`);
    }
    this.appended = [...counts][0] ?? 0;
  }

  dispose(): void {
    const { memory } = this.device;
    for (const address of this.owned) memory.release(address);
    for (const { address } of this.pageTables.values()) memory.release(address);
  }

  feed(name: string, dtype: keyof typeof DTYPES, data: TensorData): void {
    const address = this.inputs.get(name);
    if (address === undefined) return;
    const { memory } = this.device.memory;
    const target = new DTYPES[dtype].array(memory.buffer as ArrayBuffer, address, data.length);
    (target as Float32Array).set(data as Float32Array);
  }

  read(buffer: ArrayBufferLike): Record<string, HostTensor> {
    return Object.fromEntries(
      Array.from(this.lowered.outputs, ([name, { buffer: from, offset, dims, dtype }]) => {
        const { array, bytes } = DTYPES[dtype];
        const size = dims.reduce((a, b) => a * b, 1);
        const at = this.addressOf(from) + offset * bytes;
        return [
          name,
          { dtype, dims, data: new array(buffer as ArrayBuffer, at, size).slice() as TensorData },
        ];
      }),
    );
  }

  /** Sets the addresses of the rows' values before and after a run. Throws `DeviceError`, and changes nothing, if memory is short. */
  prepare(rows: readonly WasmState[]): Change[] {
    const changes: Change[] = [];
    try {
      for (const [index, state] of this.states.entries()) {
        for (const [row, { values, length }] of rows.entries()) {
          const value = values.get(state.spec.name)!;
          const isKept = state.before === state.after;
          if (state.spec.grows === undefined) changes.push(...this.replace(index, row, value, isKept));
          else changes.push(...this.append(index, row, value, isKept ? 0 : this.appended, length));
        }
      }
    } catch (error) {
      for (const change of changes) change.undo();
      throw error;
    }
    return changes;
  }

  private setTables(index: number, row: number, before: number, after: number): void {
    const words = this.device.memory.int32(this.tables, this.states.length * 2 * this.rows);
    words[index * 2 * this.rows + row] = before;
    words[(index * 2 + 1) * this.rows + row] = after;
  }

  private replace(index: number, row: number, value: KeptValue, isKept: boolean): Change[] {
    const before = value.blocks[0]!;
    if (isKept) {
      this.setTables(index, row, before.address, before.address);
      return [];
    }
    const after = new Block(this.device.memory, before.bytes);
    this.setTables(index, row, before.address, after.address);
    return [
      {
        keep: () => {
          value.blocks = [after];
          before.release();
        },
        undo: () => after.release(),
      },
    ];
  }

  /** Makes room for `count` more entries, in pages that are not shared with other states. */
  private append(index: number, row: number, value: KeptValue, count: number, length: number): Change[] {
    const { memory } = this.device;
    const blocks = [...value.blocks];
    const fresh: Block[] = [];
    const replaced: Block[] = [];
    const undo = (): void => {
      for (const block of fresh) block.release();
    };
    try {
      const last = Math.floor(length / PAGE_ENTRIES);
      const partial = blocks[last];
      if (count > 0 && partial?.isShared) {
        const copy = partial.copy();
        fresh.push(copy);
        replaced.push(partial);
        blocks[last] = copy;
      }
      while (blocks.length * PAGE_ENTRIES < length + count) {
        const block = new Block(memory, pageBytes(value.spec));
        fresh.push(block);
        blocks.push(block);
      }
      const table = this.pageTable(`${index}/${row}`, blocks.length);
      memory.int32(table, blocks.length).set(blocks.map(({ address }) => address));
      this.setTables(index, row, table, table);
    } catch (error) {
      undo();
      throw error;
    }
    if (fresh.length === 0) return [];
    return [
      {
        keep: () => {
          value.blocks = blocks;
          for (const block of replaced) block.release();
        },
        undo,
      },
    ];
  }

  private pageTable(key: string, pages: number): number {
    const { memory } = this.device;
    let table = this.pageTables.get(key);
    if (!table || table.room < pages) {
      if (table) memory.release(table.address);
      this.pageTables.delete(key);
      const room = Math.max(16, 2 ** Math.ceil(Math.log2(pages)));
      table = { address: memory.allocate(4 * room), room };
      this.pageTables.set(key, table);
    }
    return table.address;
  }
}
