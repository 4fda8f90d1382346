/** The builder of schedules: collects steps while a graph is lowered. All dimensions are known numbers. */
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
 * Collects the steps of a schedule. Steps that depend only on constants run once.
 */
export class WasmBuilder {
  /** The steps of every run; and those that run once, since their operands are constants. */
  readonly steps: (Step | MapStep)[] = [];
  readonly once: (Step | MapStep)[] = [];
  /** States whose new values are written in place by kernels. */
  readonly written = new Set<number>();
  /** Tensors that some other node uses. */
  readonly used = new Set<Tensor>();
  path = '';
  /** The key of the present node's constants; see `Buffer.key`. */
  key: string | undefined;
  private made = 0;
  private readonly bound = new Map<string, number>();
  /** Norms, and products with quantized matrices. */
  readonly products = new PackedProducts(this);

  constructor(
    private readonly sizes: (symbol: string) => number,
    readonly threads: number,
    /** The states whose new values these tensors are, if a kernel may write them in place. */
    readonly successors: ReadonlyMap<Tensor, number>,
    /** The input with the number of entries of each row's growing states. */
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

  /** Binds a symbol that the graph itself introduces. */
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

  /** Allocates memory for a result, which is constant if all of its operands are. */
  allocate(dims: readonly number[], dtype: DType, from: readonly Buffer[]): View {
    const bytes = count(dims) * DTYPES[dtype].bytes;
    const isConstant = from.every((buffer) => buffer.isConstant);
    const key = isConstant && this.key !== undefined ? shortKey(`${this.key}#${this.made++}`) : undefined;
    return this.viewOf(new Buffer(bytes, undefined, isConstant, key), dims, dtype);
  }

  /** Sets the path and key of the next node. */
  begin(path: string, key: string | undefined): void {
    this.path = path;
    this.key = key;
    this.made = 0;
  }

  /** Adds a step. A step that reads only constants runs once. */
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

  /** An operand as memory: copies a state's rows together, and dequantizes codes. */
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

  /** An operand as contiguous memory in its own type. */
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

  /** An operand [..., size] as rows with a constant stride. */
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

  /** The words of an operand [batch, sequence, size]: its address, and the strides of rows and tokens in bytes. */
  tokens(view: View): Word[] {
    return [this.at(view), 4 * view.strides[0]!, 4 * view.strides[1]!];
  }

  copy(view: View): View {
    const to = this.allocate(view.dims, view.dtype, [view.buffer]);
    this.store(to, view, 'copy');
    return to;
  }

  /** Copies elements to a view of the same dimensions. */
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

  /** An element-wise instruction with broadcasting. */
  map(instruction: Instruction, dtype: DType, inputs: readonly Value[]): View {
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
      label: Instruction[instruction].replace(/[FIB]$/, ''),
    });
    return to;
  }

  private addMap(step: MapStep): void {
    const isOnce = step.stores.every(({ view }) => view.buffer.isConstant);
    (isOnce ? this.once : this.steps).push(step);
  }

  /** The word of a table of an operand's rows, one for each state of a batch. */
  rowsOf(value: Value): { word: Word; reads: Buffer[]; readsStates?: number[] } {
    if (value.kind === 'state') {
      return { word: { state: value.index, side: 'before' }, reads: [], readsStates: [value.index] };
    }
    const view = this.contiguous(value);
    return { word: this.table(view), reads: [view.buffer] };
  }

  /** The same for a result: the memory of the state that it replaces, or new memory. */
  rowsTo(
    tensor: Tensor,
    from: readonly Buffer[],
  ): { word: Word; value: View; writes: Buffer[]; writesStates?: number[] } {
    const state = this.successors.get(tensor);
    const dims = this.dims(tensor.shape);
    if (state !== undefined) {
      // Nothing else reads it, so it needs no memory of its own.
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

/** A load, or a literal for a constant of one element. */
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

/** A hash of the expression that computes a constant: expressions written out would grow exponentially. */
function shortKey(text: string): string {
  const known = shortKeys.get(text);
  if (known !== undefined) return known;
  const key = `constant ${shortKeys.size}`;
  shortKeys.set(text, key);
  return key;
}
