/** Encodes a graph as an ONNX model. */
import { ShapeError } from '../../../errors.js';
import { DTYPES, type DType } from '../../dtype.js';
import type { Body } from '../../ops/body.js';
import {
  type Composite,
  expansionOf,
  inputName,
  isPrimitive,
  type Node,
  type Operands,
  type Tensor,
  type TensorType,
  topologicalOrder,
} from '../../tensor.js';
import { type FusedOperators, OnnxBuilder, type QuantizedOperand, valueInfo } from './builder.js';
import { fuseNodes } from './fuse.js';
import { encodeModel, type GraphProto, type NodeProto } from './proto.js';

/** How a graph is encoded. */
export interface OnnxOptions {
  /** Fused operators that the device supports; none by default. */
  fused?: FusedOperators;
  /** Values of symbolic dimensions that are fixed. If all are fixed, ONNX Runtime plans memory ahead. */
  dims?: Readonly<Record<string, number>>;
  /** Inputs that may be used only for their sizes. */
  sizes?: readonly Tensor[];
  /** Inputs that become constants of the model, with the sources of their bytes. */
  weights?: ReadonlyMap<string, WeightSource>;
}

/** The source of a constant: the concatenation of pieces, or a quantized matrix. */
export type WeightSource = readonly WeightPiece[] | QuantizedSource;

/**
 * A block-quantized matrix [rows, columns] with blocks of `block` columns: scale * (code - 2^(bits - 1)). `codes` [rows, bytes] are uint8, with
 * the first of two 4-bit codes in the lower half; `scales` [rows, blocks] are float32. The last block of a row is padded. It can be the
 * transposed second operand of a matrix product and, if rows are whole blocks, a table for gather. Matrices of experts [experts, rows,
 * columns] are stacked along the rows.
 */
export interface QuantizedSource {
  readonly bits: 4 | 8;
  readonly block: number;
  readonly codes: WeightPiece;
  readonly scales: WeightPiece;
  /**
   * Requests the same matrix transposed, int8 [columns, rows], with float32 scales [rows]. Absent if that is not available.
   */
  readonly integers?: () => { readonly values: WeightPiece; readonly scales: WeightPiece } | undefined;
}

/** A piece of a constant: embedded in the model, or external data in a file (or passed in memory under that name). */
export type WeightPiece = { readonly type: DType } & (
  | { readonly bytes: Uint8Array }
  | { readonly location: string; readonly byteOffset?: number; readonly byteLength?: number }
);

interface NamedType extends TensorType {
  readonly name: string;
}

/** An encoded ONNX model, with its inputs and outputs. */
export interface OnnxModel {
  readonly bytes: Uint8Array;
  readonly inputs: readonly NamedType[];
  /** Inputs that became constants. */
  readonly weights: readonly NamedType[];
  readonly outputs: readonly NamedType[];
}

/** Encodes the graph of `outputs`. Inputs keep their names. Throws `ShapeError` for duplicate names. */
export function toOnnx(outputs: Readonly<Record<string, Tensor>>, options: OnnxOptions = {}): OnnxModel {
  const builder = new OnnxBuilder(options.fused ?? new Set(), new Map(Object.entries(options.dims ?? {})), {
    subgraph: lowerBody,
    inline: lowerInline,
  });
  const names = new Map<Tensor, string>();
  const inputs: NamedType[] = [];
  const weights: NamedType[] = [];
  const order = topologicalOrder([...(options.sizes ?? []), ...Object.values(outputs)]);
  const taken = new Set(Object.keys(outputs));

  for (const node of order) {
    const tensor = node.outputs[0]!;
    const name = inputName(tensor);
    if (name === undefined) continue;
    if (taken.has(name)) {
      const other = name in outputs ? 'an output' : 'another input';
      throw new ShapeError(
        `the input '${name}' has the name of ${other}: use other names, or one tensor twice`,
      );
    }
    taken.add(name);
    names.set(tensor, name);
    const type = { name, dtype: tensor.dtype, shape: tensor.shape.map((dim) => builder.resolve(dim)) };
    const source = options.weights?.get(name);
    if (source) {
      weights.push(type);
      names.set(tensor, encodeWeight(builder, name, tensor, source));
    } else {
      builder.input(name, tensor);
      inputs.push(type);
    }
  }
  lowerAll(builder, order, Object.values(outputs), names);

  const results = Object.entries(outputs).map(([name, tensor]) => {
    return { name, dtype: tensor.dtype, shape: tensor.shape.map((dim) => builder.resolve(dim)) };
  });
  const named = Object.entries(outputs).map(([name, tensor]) => ({ name, value: names.get(tensor)! }));
  fuse(builder, named, names);
  nameOutputs(builder, named);
  const bytes = encodeModel({
    name: 'heddle',
    node: builder.nodes,
    initializer: builder.initializers,
    input: builder.inputs,
    output: results.map(({ name, dtype, shape }) => valueInfo(name, dtype, shape)),
  });
  return { bytes, inputs, weights, outputs: results };
}

/** Adds a constant; returns its name. 16-bit floats are widened to float32. */
function encodeWeight(
  builder: OnnxBuilder,
  name: string,
  { dtype, shape }: TensorType,
  source: WeightSource,
): string {
  const dims = shape as number[];
  if ('codes' in source) {
    builder.quantized.set(name, new QuantizedMatrix(builder, name, dims, source));
    return name;
  }
  const pieces = source;
  const whole = pieces.length === 1;
  const size = dims.reduce((a, b) => a * b, 1);
  const stored = pieces.map((piece, i) => {
    const bytes = 'location' in piece ? piece.byteLength : piece.bytes.byteLength;
    const elements = bytes === undefined ? size : bytes / DTYPES[piece.type].bytes;
    const id = whole ? name : `${name}/${i}`;
    declare(builder, id, whole ? dims : [elements], piece);
    return piece.type === dtype ? id : builder.cast(id, dtype);
  });
  if (whole) return stored[0]!;
  const joined = builder.emit('Concat', stored, { attributes: { axis: { int: 0 } } })[0]!;
  return builder.emit('Reshape', [joined, builder.shape(dims)])[0]!;
}

function declare(builder: OnnxBuilder, name: string, dims: readonly number[], piece: WeightPiece): string {
  builder.initializers.push({
    name,
    dims: [...dims],
    dataType: DTYPES[piece.type].onnx,
    ...('location' in piece
      ? { externalData: externalEntries(piece), dataLocation: 1 }
      : { rawData: piece.bytes }),
  });
  return name;
}

/** Operands of quantized matrices [..., rows, columns], whose codes are declared in the shapes that operators need. */
class QuantizedMatrix implements QuantizedOperand {
  readonly bits: 4 | 8;
  readonly block: number;
  private readonly declared = new Map<string, string>();
  private asked = false;
  private given: { values: string; scales: string } | undefined;

  constructor(
    private readonly builder: OnnxBuilder,
    private readonly name: string,
    private readonly dims: readonly number[],
    private readonly source: QuantizedSource,
  ) {
    this.bits = source.bits;
    this.block = source.block;
  }

  get count(): number {
    return this.leading.reduce((a, b) => a * b, 1);
  }

  get rows(): number {
    return this.dims.at(-2)!;
  }

  get columns(): number {
    return this.dims.at(-1)!;
  }

  private get leading(): readonly number[] {
    return this.dims.slice(0, -2);
  }

  private get blocks(): number {
    return Math.ceil(this.columns / this.block);
  }

  codes(blocked: boolean): string {
    const bytes = (columns: number): number => (columns * this.bits) / 8;
    return blocked
      ? this.declare(
          'blocks',
          [...this.leading, this.rows, this.blocks, bytes(this.block)],
          this.source.codes,
        )
      : this.declare(
          'rows',
          [...this.leading, this.rows, bytes(this.blocks * this.block)],
          this.source.codes,
        );
  }

  scales(): string {
    return this.declare('scales', [...this.leading, this.rows, this.blocks], this.source.scales);
  }

  integers(): { values: string; scales: string } | undefined {
    // Requested once, however many products share the matrix.
    if (!this.asked) {
      this.asked = true;
      const pieces = this.source.integers?.();
      this.given = pieces && {
        values: this.declare('integers', [this.columns, this.rows], pieces.values),
        scales: this.declare('row_scales', [this.rows], pieces.scales),
      };
    }
    return this.given;
  }

  private declare(what: string, dims: readonly number[], piece: WeightPiece): string {
    let name = this.declared.get(what);
    if (name === undefined) {
      name = declare(this.builder, `${this.name}/${what}`, dims, piece);
      this.declared.set(what, name);
    }
    return name;
  }
}

function externalEntries(
  piece: Extract<WeightPiece, { location: string }>,
): { key: string; value: string }[] {
  const { location, byteOffset, byteLength } = piece;
  return Object.entries({ location, offset: byteOffset, length: byteLength }).flatMap(([key, value]) =>
    value === undefined ? [] : [{ key, value: String(value) }],
  );
}

/**
 * Gives a value the name of an output, by renaming the output of its node; if that is impossible (an input, a constant, a value of two outputs)
 * it is copied.
 */
function nameOutputs(builder: OnnxBuilder, outputs: readonly { value: string; name: string }[]): void {
  const produced = new Set(builder.nodes.flatMap(({ output }) => output));
  const renamed = new Map<string, string>();
  for (const { value, name } of outputs) {
    if (produced.has(value) && !renamed.has(value)) renamed.set(value, name);
  }
  const current = (name: string): string => renamed.get(name) ?? name;
  const rename = (nodes: readonly NodeProto[]): void => {
    for (const node of nodes) {
      node.input = node.input.map(current);
      node.output = node.output.map(current);
      for (const { g } of node.attribute) if (g) rename(g.node);
    }
  };
  rename(builder.nodes);
  for (const { value, name } of outputs) {
    if (renamed.get(value) === name) continue;
    builder.nodes.push({
      name: `output/${name}`,
      opType: 'Identity',
      domain: '',
      input: [current(value)],
      output: [name],
      attribute: [],
    });
  }
}

/** Fuses nodes for the device. */
function fuse(
  builder: OnnxBuilder,
  outputs: readonly { value: string }[],
  names: ReadonlyMap<Tensor, string>,
): void {
  const inner = builder.nodes.flatMap(({ attribute }) => attribute.flatMap(({ g }) => (g ? namesIn(g) : [])));
  for (const { name, dims } of builder.initializers)
    if (dims.every((dim) => dim === 1)) builder.scalars.add(name);
  const nodes = fuseNodes(builder.nodes, {
    fused: builder.fused,
    kept: new Set([...outputs.map(({ value }) => value), ...inner]),
    shapes: new Map(Array.from(names, ([tensor, name]) => [name, tensor.shape])),
    scalars: builder.scalars,
  });
  builder.nodes.splice(0, builder.nodes.length, ...nodes);
}

function namesIn(graph: GraphProto): string[] {
  return graph.node.flatMap(({ input, attribute }) => [
    ...input,
    ...attribute.flatMap(({ g }) => (g ? namesIn(g) : [])),
  ]);
}

/** The names of lowered values that a subgraph may use, by tensor. */
const lowered = new WeakMap<OnnxBuilder, Map<Tensor, string>>();

function lowerBody(outer: OnnxBuilder, body: Body): GraphProto {
  const builder = outer.inner();
  const names = new Map(lowered.get(outer));
  for (const placeholder of body.inputs) {
    const name = inputName(placeholder)!;
    names.set(placeholder, name);
    builder.input(name, placeholder);
  }
  lowerAll(builder, body.nodes, body.results, names);
  const outputs = body.results.map((tensor, i) => ({
    name: `${body.name}.result${i}`,
    value: names.get(tensor)!,
    dtype: tensor.dtype,
    shape: tensor.shape.map((dim) => builder.resolve(dim)),
  }));
  fuse(builder, outputs, names);
  nameOutputs(builder, outputs);
  return {
    name: body.name,
    node: builder.nodes,
    initializer: builder.initializers,
    input: builder.inputs,
    output: outputs.map(({ name, dtype, shape }) => valueInfo(name, dtype, shape)),
  };
}

function lowerInline(builder: OnnxBuilder, results: readonly Tensor[], operands: Operands): string[] {
  const names = lowered.get(builder)!;
  const boundary = new Set(operands.flatMap((operand) => (operand ? [operand.node] : [])));
  lowerAll(builder, topologicalOrder(results, boundary), results, names);
  return results.map((result) => names.get(result)!);
}

function lowerAll(
  builder: OnnxBuilder,
  order: readonly Node[],
  results: readonly Tensor[],
  names: Map<Tensor, string>,
): void {
  lowered.set(builder, names);
  for (const tensor of results) builder.used.add(tensor);
  for (const node of order) for (const operand of node.inputs) if (operand) builder.used.add(operand);
  for (const node of order) {
    if (names.has(node.outputs[0]!)) continue;
    const { operator } = node;
    builder.path = node.path;
    const operands = node.inputs.map((operand) => (operand ? names.get(operand)! : ''));
    const kernel = isPrimitive(operator) ? operator.lower.onnx : (operator as Composite).kernels?.onnx;
    const lowered = kernel?.(builder, operands, node);
    if (lowered) {
      for (const [i, output] of node.outputs.entries()) names.set(output, lowered[i]!);
      continue;
    }
    const expansion = expansionOf(node);
    const boundary = new Set(node.inputs.flatMap((operand) => (operand ? [operand.node] : [])));
    lowerAll(builder, topologicalOrder(expansion, boundary), expansion, names);
    for (const [i, output] of node.outputs.entries()) names.set(output, names.get(expansion[i]!)!);
  }
}
