/** Collects ONNX nodes while a graph is lowered: names, constants, and the run-time values of symbolic dimensions. */
import { ShapeError } from '../../../errors.js';
import { DTYPES, type DType, literal, type TensorData } from '../../dtype.js';
import type { Body } from '../../ops/body.js';
import { type Dim, dimTerms, evaluateDim, namesIn, quotientOf, type Shape } from '../../shape.js';
import type { Node, Operands, Tensor, TensorType } from '../../tensor.js';
import {
  ATTRIBUTE_TYPES,
  type AttributeProto,
  type GraphProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './proto.js';

/** The value of an attribute of a node, by its type in ONNX. */
export type AttributeValue =
  | { int: number }
  | { ints: number[] }
  | { float: number }
  | { string: string }
  | { graph: GraphProto };

/** Options of a node; one output and the default ONNX domain if absent. */
export interface EmitOptions {
  attributes?: Record<string, AttributeValue>;
  outputs?: number;
  domain?: string;
}

/** Names of fused operators beyond the ONNX standard that the device has kernels for. */
export type FusedOperators = ReadonlySet<string>;

/** One or several block-quantized matrices, as operands of ONNX operators. */
export interface QuantizedOperand {
  /** The first axis of operands [count, rows, ...]; 1 for a single matrix, which has no such axis. */
  readonly count: number;
  readonly bits: 4 | 8;
  readonly block: number;
  readonly rows: number;
  readonly columns: number;
  /** The name of the codes: [..., rows, blocks, bytes] or [..., rows, bytes]. */
  codes(blocked: boolean): string;
  /** The name of the scales [..., rows, blocks]. */
  scales(): string;
  /** The names of the transposed matrix [columns, rows] as int8 and of its scales for each row, if available. */
  integers(): { values: string; scales: string } | undefined;
}

/** Emits the nodes that compute an operator, and returns the names of its outputs. */
export type OnnxLowering<Attributes> = (
  builder: OnnxBuilder,
  inputs: readonly string[],
  node: Node<Attributes>,
) => readonly string[];

/** The lowering of an operator that is one ONNX node with the same operands, and no attributes. */
export function onnxNode(opType: string): OnnxLowering<unknown> {
  return (builder, inputs) => builder.emit(opType, inputs);
}

/** Lowers parts of a graph: subgraphs of a node, and expansions of a node. */
export interface PartLowering {
  subgraph(outer: OnnxBuilder, body: Body): GraphProto;
  inline(builder: OnnxBuilder, results: readonly Tensor[], operands: Operands): string[];
}

/** The nodes, constants and inputs of an ONNX graph under construction. */
export class OnnxBuilder {
  readonly nodes: NodeProto[] = [];
  readonly initializers: TensorProto[] = [];
  readonly inputs: ValueInfoProto[] = [];
  /** The layer path of the graph node that is being lowered. */
  path = '';
  /** Results that are used: a fused operator may lack some outputs of its expansion. */
  readonly used = new Set<Tensor>();
  /** Names of scalar constants. */
  readonly scalars = new Set<string>();
  /** Block-quantized constants, by the name of the value that they represent. */
  readonly quantized = new Map<string, QuantizedOperand>();
  private readonly cache = new Map<string, string>();
  private readonly symbolSources = new Map<string, { name: string; axis: number }>();

  constructor(
    readonly fused: FusedOperators,
    readonly bound: ReadonlyMap<string, number>,
    private readonly parts: PartLowering,
    /** A prefix that makes a subgraph's names unique. */
    private readonly prefix = '',
  ) {}

  /** Lowers a subgraph of a node; it refers to values of this graph by name. */
  subgraph(body: Body): GraphProto {
    return this.parts.subgraph(this, body);
  }

  /** Lowers an alternative expansion of a node with these operands; returns the names of its results. */
  inline(results: readonly Tensor[], operands: Operands): string[] {
    return this.parts.inline(this, results, operands);
  }

  /** A builder for a subgraph of this graph, with the same symbols. */
  inner(): OnnxBuilder {
    const inner = new OnnxBuilder(
      this.fused,
      this.bound,
      this.parts,
      `${this.prefix}body${this.nodes.length}/`,
    );
    for (const [symbol, source] of this.symbolSources) inner.symbolSources.set(symbol, source);
    for (const [name, operand] of this.quantized) inner.quantized.set(name, operand);
    for (const { name, dims } of this.initializers)
      if (dims.every((dim) => dim === 1)) inner.scalars.add(name);
    for (const name of this.scalars) inner.scalars.add(name);
    return inner;
  }

  /** Adds a node; returns the names of its outputs. An empty input name means an absent optional operand. */
  emit(opType: string, inputs: readonly string[], options: EmitOptions = {}): string[] {
    const id = `${this.prefix}${opType}_${this.nodes.length}`;
    const count = options.outputs ?? 1;
    const output = Array.from({ length: count }, (_, i) => (count === 1 ? id : `${id}.${i}`));
    this.nodes.push({
      name: this.path === '' ? id : `${this.path}/${id}`,
      opType,
      domain: options.domain ?? '',
      input: [...inputs],
      output,
      attribute: Object.entries(options.attributes ?? {}).map(encodeAttribute),
    });
    return output;
  }

  /** A constant of the given type; equal ones are stored once. */
  constant(data: TensorData, shape: readonly number[], dtype: DType): string {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    // Large constants are rarely equal; hashing them would cost more than it saves.
    const key = bytes.length <= 256 ? `constant:${dtype}:${shape}:${bytes}` : undefined;
    const known = key && this.cache.get(key);
    if (known) return known;
    const name = `${this.prefix}constant_${this.initializers.length}`;
    this.initializers.push({
      name,
      dims: [...shape],
      dataType: DTYPES[dtype].onnx,
      rawData: bytes,
    });
    if (key) this.cache.set(key, name);
    return name;
  }

  scalar(value: number, dtype: DType = 'float32'): string {
    return this.constant(literal(value, dtype), [], dtype);
  }

  ints(values: readonly number[]): string {
    const data = BigInt64Array.from(values, (value) => BigInt(Math.trunc(value)));
    return this.constant(data, [values.length], 'int64');
  }

  /** A value converted to another type. */
  cast(name: string, to: DType): string {
    return this.emit('Cast', [name], { attributes: { to: { int: DTYPES[to].onnx } } })[0]!;
  }

  /** Declares a graph input and the symbols that its shape binds. */
  input(name: string, type: TensorType): void {
    const shape = type.shape.map((dim) => this.resolve(dim));
    this.inputs.push(valueInfo(name, type.dtype, shape));
    for (const [axis, dim] of shape.entries()) {
      if (typeof dim === 'string' && /^\w+$/.test(dim) && !this.symbolSources.has(dim)) {
        this.symbolSources.set(dim, { name, axis });
      }
    }
  }

  /** `dim` with bound symbols replaced; a number if all are bound. */
  resolve(dim: Dim): Dim {
    if (typeof dim === 'number') return dim;
    return namesIn(dim).every((name) => this.bound.has(name)) ? evaluateDim(dim, this.bound) : dim;
  }

  /** The name of an int64 tensor [1] with a dimension's value at run time. */
  dim(dim: Dim): string {
    const resolved = this.resolve(dim);
    if (typeof resolved === 'number') return this.ints([resolved]);
    const known = this.cache.get(`dim:${resolved}`);
    if (known) return known;
    let sum: string | undefined;
    for (const { symbols, coefficient } of dimTerms(resolved)) {
      let product = coefficient === 1 && symbols.length > 0 ? undefined : this.ints([coefficient]);
      for (const symbol of symbols) {
        const value = this.symbol(symbol);
        product = product ? this.emit('Mul', [product, value])[0]! : value;
      }
      sum = sum ? this.emit('Add', [sum, product!])[0]! : product!;
    }
    this.cache.set(`dim:${resolved}`, sum!);
    return sum!;
  }

  private symbol(symbol: string): string {
    const value = this.bound.get(symbol);
    if (value !== undefined) return this.ints([value]);
    const known = this.cache.get(`symbol:${symbol}`);
    if (known) return known;
    const quotient = quotientOf(symbol);
    if (quotient) {
      const { dim, divisor } = quotient;
      const [roundedUp] = this.emit('Add', [this.dim(dim), this.ints([divisor - 1])]);
      const [pieces] = this.emit('Div', [roundedUp!, this.ints([divisor])]);
      this.cache.set(`symbol:${symbol}`, pieces!);
      return pieces!;
    }
    const source = this.symbolSources.get(symbol);
    if (!source)
      throw new ShapeError(`no input of the graph has the dimension '${symbol}', and 'dims' does not fix it`);
    const [name] = this.emit('Shape', [source.name], {
      attributes: { start: { int: source.axis }, end: { int: source.axis + 1 } },
    });
    this.cache.set(`symbol:${symbol}`, name!);
    return name!;
  }

  /** The name of an int64 tensor [rank] with a shape's value at run time. */
  shape(shape: Shape): string {
    const resolved = shape.map((dim) => this.resolve(dim));
    if (resolved.every((dim) => typeof dim === 'number')) return this.ints(resolved as number[]);
    const key = `shape:${resolved.join(',')}`;
    const known = this.cache.get(key);
    if (known) return known;
    const parts = resolved.map((dim) => this.dim(dim));
    const name =
      parts.length === 1 ? parts[0]! : this.emit('Concat', parts, { attributes: { axis: { int: 0 } } })[0]!;
    this.cache.set(key, name);
    return name;
  }
}

/** The name, dtype and shape of a graph's input or output; named dimensions stay named. */
export function valueInfo(name: string, dtype: DType, shape: Shape): ValueInfoProto {
  const dim = shape.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d }));
  return { name, type: { tensorType: { elemType: DTYPES[dtype].onnx, shape: { dim } } } };
}

function encodeAttribute([name, value]: [string, AttributeValue]): AttributeProto {
  if ('int' in value) return { name, type: ATTRIBUTE_TYPES.int, i: value.int };
  if ('ints' in value) return { name, type: ATTRIBUTE_TYPES.ints, ints: value.ints };
  if ('graph' in value) return { name, type: ATTRIBUTE_TYPES.graph, g: value.graph };
  if ('float' in value) return { name, type: ATTRIBUTE_TYPES.float, f: value.float };
  return { name, type: ATTRIBUTE_TYPES.string, s: new TextEncoder().encode(value.string) };
}
