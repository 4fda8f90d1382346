/** Collects the steps of a schedule while a graph is lowered, all of whose dimensions are numbers by then. */
import { DTYPES, type DType, type TensorData } from '../../dtype.js';
import { asMatrix, type Dim, evaluateDim, type Shape } from '../../shape.js';
import type { Node, Tensor } from '../../tensor.js';
import { Element, Instruction, Kernel } from './codes.js';
import { type Expression, type MapStep, type Register, registerOf } from './map.js';
import { castInWasm } from './operators.js';
import { PackedProducts, type Rows } from './packed-products.js';
import type { Step, Word } from './step.js';
import {
  Buffer,
  broadcast,
  broadcastDims,
  type Coded,
  contiguousStrides,
  count,
  ELEMENT_BYTES,
  ELEMENTS,
  isContiguous,
  type Kept,
  type Packed,
  reshaped,
  type Value,
  type View,
} from './value.js';

/** Emits the steps that compute an operator, and returns its results. */
export type WasmLowering<Attributes> = (
  builder: WasmBuilder,
  inputs: readonly (Value | undefined)[],
  node: Node<Attributes>,
) => readonly Value[];

/**
 * Collects the steps of the kernels while a graph is lowered to them. What is computed from constants alone becomes a step that is done
 * once.
 */
export class WasmBuilder {
  /** What is done in every run, and what is done once, since its operands never change. */
  readonly steps: (Step | MapStep)[] = [];
  readonly once: (Step | MapStep)[] = [];
  /** States whose successors kernels have written to their places. */
  readonly written = new Set<number>();
  /** Tensors that some other node uses. */
  readonly used = new Set<Tensor>();
  path = '';
  /** What the node that is being lowered is called among constants; see `Buffer.key`. */
  key: string | undefined;
  private made = 0;
  private readonly bound = new Map<string, number>();
  /** Norms, and products with matrices in few bits. */
  readonly products = new PackedProducts(this);

  constructor(
    private readonly sizes: (symbol: string) => number,
    readonly threads: number,
    /** The states that tensors are the successors of, where a kernel may write that itself. */
    readonly successors: ReadonlyMap<Tensor, number>,
    /** The input that holds how many entries each row's growing states have. */
    readonly lengths: Buffer | undefined,
  ) {}

  resolve(dim: Dim): number {
    if (typeof dim === 'number') return dim;
    return evaluateDim(dim, {
      get: (symbol: string) => this.bound.get(symbol) ?? this.sizes(symbol),
    } as ReadonlyMap<string, number>);
  }

  dims(shape: Shape): number[] {
    return shape.map((dim) => this.resolve(dim));
  }

  /** Whether a symbol's size is known outside the graph. */
  knows(symbol: string): boolean {
    try {
      return this.sizes(symbol) !== undefined;
    } catch {
      return false;
    }
  }

  /** Says what a symbol is that came about inside the graph. */
  bind(symbol: string, size: number): void {
    this.bound.set(symbol, size);
  }

  constant(data: TensorData, dims: readonly number[], dtype: DType, key?: string): View {
    const buffer = new Buffer(data.byteLength, { kind: 'constant', data }, true, key);
    return this.viewOf(buffer, dims, dtype);
  }

  viewOf(buffer: Buffer, dims: readonly number[], dtype: DType, element = ELEMENTS[dtype]): View {
    return { kind: 'view', dtype, dims, buffer, element, strides: contiguousStrides(dims), offset: 0 };
  }

  /** Memory for a result, which is as constant as the operands that it is made from. */
  allocate(dims: readonly number[], dtype: DType, from: readonly Buffer[]): View {
    const bytes = count(dims) * DTYPES[dtype].bytes;
    const isConstant = from.every((buffer) => buffer.isConstant);
    const key = isConstant && this.key !== undefined ? shortKey(`${this.key}#${this.made++}`) : undefined;
    return this.viewOf(new Buffer(bytes, undefined, isConstant, key), dims, dtype);
  }

  /** Sets the name of the next node's constants. */
  begin(path: string, key: string | undefined): void {
    this.path = path;
    this.key = key;
    this.made = 0;
  }

  /** Adds a step. One that reads nothing but what never changes is done once. */
  step(
    kernel: Kernel,
    words: readonly Word[],
    operands: {
      reads: readonly Buffer[];
      writes: readonly Buffer[];
      readsStates?: readonly number[];
      writesStates?: readonly number[];
      share?: Step['share'];
      label?: string;
      weightBytes?: number;
    },
  ): void {
    const { label = Kernel[kernel], weightBytes = 0, ...rest } = operands;
    const isOnce =
      !operands.readsStates && !operands.writesStates && operands.writes.every((buffer) => buffer.isConstant);
    (isOnce ? this.once : this.steps).push({ kernel, words, ...rest, path: this.path, label, weightBytes });
  }

  /** An operand as memory: a state's rows are put together, codes become numbers. */
  view(value: Value): View {
    switch (value.kind) {
      case 'view':
        return value;
      case 'packed':
        return this.unpacked(value);
      case 'state':
        return this.loaded(value);
      case 'coded':
        return this.widened(value);
    }
  }

  /** An operand whose elements lie one after the other, in its own type. */
  contiguous(value: Value): View {
    const view = this.view(value);
    return isContiguous(view) && view.element === ELEMENTS[view.dtype] ? view : this.copy(view);
  }

  /** An operand whose last axis is contiguous. */
  withRows(value: Value): View {
    const view = this.view(value);
    const isPlain = view.element === ELEMENTS[view.dtype];
    return isPlain && (view.strides.at(-1) === 1 || view.dims.at(-1) === 1) ? view : this.copy(view);
  }

  /** An operand [..., size] as rows at one distance from each other. */
  rows(value: Value): Rows {
    const given = this.withRows(value);
    const size = given.dims.at(-1)!;
    const flat = reshaped(given, [count(given.dims.slice(0, -1)), size]);
    const view = flat ?? reshaped(this.copy(given), [count(given.dims.slice(0, -1)), size])!;
    return {
      buffer: view.buffer,
      bytes: 4 * view.offset,
      stride: 4 * (view.dims[0] === 1 ? size : view.strides[0]!),
    };
  }

  at(view: View): Word {
    return { buffer: view.buffer, bytes: view.offset * ELEMENT_BYTES[view.element] };
  }

  /** An operand [batch, sequence, size]: its address, and bytes from row to row and from token to token. */
  tokens(view: View): Word[] {
    return [this.at(view), 4 * view.strides[0]!, 4 * view.strides[1]!];
  }

  copy(view: View): View {
    const to = this.allocate(view.dims, view.dtype, [view.buffer]);
    this.store(to, view, 'copy');
    return to;
  }

  /** Copies elements to a place of the same dimensions. */
  store(to: View, from: View, label: string): void {
    if (count(to.dims) === 0) return;
    this.addMap({
      kernel: Kernel.map,
      dims: to.dims,
      stores: [{ view: to, value: { kind: 'load', view: from } }],
      path: this.path,
      label,
    });
  }

  /** An instruction on every element of operands that broadcast with each other. */
  map(
    instruction: Instruction,
    dtype: DType,
    inputs: readonly Value[],
    label = Instruction[instruction],
  ): View {
    const views = inputs.map((input) => this.view(input));
    const dims = broadcastDims(views.map((view) => view.dims));
    const to = this.allocate(
      dims,
      dtype,
      views.map(({ buffer }) => buffer),
    );
    if (count(dims) === 0) return to;
    this.addMap({
      kernel: Kernel.map,
      dims,
      stores: [
        {
          view: to,
          value: {
            kind: 'compute',
            instruction,
            operands: views.map((view) => operandOf(broadcast(view, dims))),
          },
        },
      ],
      path: this.path,
      label: label.replace(/[FIB]$/, ''),
    });
    return to;
  }

  private addMap(step: MapStep): void {
    const isOnce = step.stores.every(({ view }) => view.buffer.isConstant);
    (isOnce ? this.once : this.steps).push(step);
  }

  /** The word that names a table of an operand's rows, of which each state of a batch is one. */
  rowsOf(value: Value): { word: Word; reads: Buffer[]; readsStates?: number[] } {
    if (value.kind === 'state') {
      return { word: { state: value.index, side: 'before' }, reads: [], readsStates: [value.index] };
    }
    const view = this.contiguous(value);
    return { word: this.table(view), reads: [view.buffer] };
  }

  /** The same for a result: the place of the state that it is, or new memory. */
  rowsTo(
    tensor: Tensor,
    from: readonly Buffer[],
  ): { word: Word; value: View; writes: Buffer[]; writesStates?: number[] } {
    const state = this.successors.get(tensor);
    const dims = this.dims(tensor.shape);
    if (state !== undefined) {
      // Nothing else reads it: it has no memory of its own.
      this.written.add(state);
      const value = this.viewOf(new Buffer(0), dims, tensor.dtype);
      return { word: { state, side: 'after' }, value, writes: [], writesStates: [state] };
    }
    const value = this.allocate(dims, tensor.dtype, from);
    return { word: this.table(value), value, writes: [value.buffer] };
  }

  private table(view: View): Word {
    const rows = view.dims[0] ?? 1;
    const stride = rows === 0 ? 0 : (count(view.dims) / rows) * ELEMENT_BYTES[view.element];
    return { table: view.buffer, bytes: view.offset * ELEMENT_BYTES[view.element], rows, stride };
  }

  private unpacked({ bits, block, codes, scales, dims }: Packed): View {
    const [rows, columns] = asMatrix(dims);
    const every = Int32Array.from({ length: rows }, (_, i) => i);
    const indices = this.constant(every, [rows], 'int32', `rows ${rows}`);
    const to = this.allocate(dims, 'float32', [codes, scales]);
    this.step(
      Kernel.gatherPacked,
      [
        bits,
        block,
        columns,
        rows,
        this.at(indices),
        Element.int32,
        rows,
        { buffer: codes, bytes: 0 },
        { buffer: scales, bytes: 0 },
        this.at(to),
      ],
      { reads: [indices.buffer, codes, scales], writes: [to.buffer], label: 'unpack' },
    );
    return to;
  }

  private widened({ codes, scales }: Coded): View {
    const numbers = castInWasm(this, codes, 'float32');
    return scales ? this.map(Instruction.multiplyF, 'float32', [numbers, scales]) : numbers;
  }

  private readonly loads = new Map<number, View>();

  private loaded({ index, dims, dtype, grows, isBatched }: Kept): View {
    const known = this.loads.get(index);
    if (known) return known;
    const to = this.viewOf(new Buffer(count(dims) * DTYPES[dtype].bytes), dims, dtype);
    this.loads.set(index, to);
    const table: Word = { state: index, side: 'before' };
    const rows = isBatched ? dims[0]! : 1;
    const size = (rows === 0 ? 0 : count(dims) / rows) * DTYPES[dtype].bytes;
    const operands = { writes: [to.buffer], readsStates: [index] };
    if (grows === undefined) {
      this.step(Kernel.loadRows, [table, rows, size, this.at(to)], { ...operands, reads: [] });
    } else {
      const outer = count(dims.slice(isBatched ? 1 : 0, grows));
      const entry = count(dims.slice(grows + 1)) * DTYPES[dtype].bytes;
      this.step(
        Kernel.loadEntries,
        [table, { buffer: this.lengths!, bytes: 0 }, rows, outer, entry, dims[grows]!, this.at(to)],
        { ...operands, reads: [this.lengths!] },
      );
    }
    return to;
  }
}

/** A load, or the number itself where a constant has only one. */
function operandOf(view: View): Expression {
  const { source } = view.buffer;
  const isOne = view.strides.every((stride, i) => stride === 0 || view.dims[i] === 1);
  if (source?.kind !== 'constant' || !isOne) return { kind: 'load', view };
  const register: Register = registerOf(view.dtype);
  const value = source.data[view.offset]!;
  if (view.dtype === 'bfloat16' || view.dtype === 'float16') return { kind: 'load', view };
  return { kind: 'constant', register, value };
}

const shortKeys = new Map<string, string>();

/** A short name for what a constant is computed from, the same for the same text: written out, names double with each square. */
function shortKey(text: string): string {
  const known = shortKeys.get(text);
  if (known !== undefined) return known;
  const key = `constant ${shortKeys.size}`;
  shortKeys.set(text, key);
  return key;
}
