/** The builder that lowerings are given: the instructions, in the sizes of a graph's dimensions and in the precision that is asked for. */
import { asMatrix, type Dim, evaluateDim, type Shape } from '../../shape.js';
import type { Node, Tensor } from '../../tensor.js';
import { type DotAxes, HloInstructions } from './instructions.js';
import { type Element, isFloat, type Packed, type Plain, type Precision, type Value } from './value.js';

/** Prints the instructions that compute an operator, and returns its results. */
export type StableHloLowering<Attributes> = (
  builder: StableHloBuilder,
  inputs: readonly (Value | undefined)[],
  node: Node<Attributes>,
) => readonly Value[];

/** Custom calls: cuDNN's attention (fused-attention.ts), and kernels that XLA compiles from Triton's dialect (triton/). */
export type Call = 'cudnn' | 'triton';

/**
 * Writes the instructions of one StableHLO function while a graph is lowered to it: converts, broadcasts and multiplies in the precision
 * that is asked for.
 */
export class StableHloBuilder extends HloInstructions {
  /** Tensors that some other node uses. */
  readonly used = new Set<Tensor>();
  /** What nodes in regions may use: the values of the graph around them. */
  values = new Map<Tensor, Value>();

  constructor(
    private readonly sizes: (symbol: string) => number,
    /** The precision of products of the node that is being lowered. */
    public precision: Precision,
    /** Bytes of float32 logits that attention has at once. */
    readonly logitBytes = 2 ** 28,
    /** The calls that may be made of what the plugin has beside its instructions. */
    readonly calls: ReadonlySet<Call> = new Set(),
    /** The precision of nodes of some layers, by their paths. */
    private readonly precisionOf?: (path: string) => Precision | undefined,
    /** The devices that share the sequences of a batch. */
    readonly devices = 1,
  ) {
    super();
  }

  /** Whether a call of this kind may be made on a batch of so many sequences: each device makes it on an equal share of them. */
  mayCall(call: Call, batch: number): boolean {
    return this.calls.has(call) && batch % this.devices === 0;
  }

  /** Lowers a node of this path in the precision of its layer. */
  inLayer<T>(path: string, lower: () => T): T {
    const around = this.precision;
    this.precision = this.precisionOf?.(path) ?? around;
    const made = lower();
    this.precision = around;
    return made;
  }

  /** The element in which products are computed. */
  get narrowElement(): Element {
    return this.precision === 'bfloat16' ? 'bf16' : 'f32';
  }

  resolve(dim: Dim): number {
    if (typeof dim === 'number') return dim;
    return evaluateDim(dim, { get: this.sizes } as unknown as ReadonlyMap<string, number>);
  }

  dims(shape: Shape): number[] {
    return shape.map((dim) => this.resolve(dim));
  }

  /** A matrix of few bits as numbers; everything else as it is. */
  plain(value: Value): Plain {
    return value.kind === 'plain' ? value : this.widened(value, this.narrowElement);
  }

  // Precision: every operator computes narrow, wide, or as its operands do.

  /** In the precision of products. */
  narrow(value: Value): Plain {
    return value.kind === 'packed'
      ? this.widened(value, this.narrowElement)
      : this.as(value, this.narrowElement);
  }

  /** In float32. */
  wide(value: Value): Plain {
    return value.kind === 'packed' ? this.widened(value, 'f32') : this.as(value, 'f32');
  }

  /** Operands in one type: the widest that one of them has which is not weak. */
  alike(values: readonly Value[]): Plain[] {
    const all = values.map((value) => this.plain(value));
    const element = commonElement(all);
    return all.map((value) => this.as(value, element));
  }

  /** `dotGeneral`, exact where float32 is the precision asked for. */
  dot(
    a: Plain,
    b: Plain,
    axes: DotAxes,
    element: Element = a.element,
    isExact = this.precision === 'float32',
  ): Plain {
    return this.dotGeneral(a, b, axes, element, isExact);
  }

  /** The numbers of a matrix in few bits: scale * (code - 2^(bits - 1)). XLA does this where it loads them for a product. */
  private widened({ dims, bits, block, codes, scales }: Packed, element: Element): Plain {
    const [rows, columns] = asMatrix(dims);
    const stored = codes.dims[1]!;
    let numbers: Plain;
    if (bits === 8) numbers = this.as(codes, element);
    else {
      const low = this.binary('and', codes, this.splat(15, 'ui8'));
      const high = this.binary('shift_right_logical', codes, this.splat(4, 'ui8'));
      const pair = [low, high].map((half) => this.reshape(half, [rows, stored, 1]));
      numbers = this.as(this.reshape(this.concat(pair, 2), [rows, 2 * stored]), element);
    }
    const blocks = scales.dims[1]!;
    const shifted = this.binary('subtract', numbers, this.splat(2 ** (bits - 1), element));
    const scale = this.reshape(this.as(scales, element), [rows, blocks, 1]);
    const whole = this.binary('multiply', this.reshape(shifted, [rows, blocks, block]), scale);
    return this.reshape(this.slice(this.reshape(whole, [rows, blocks * block]), 1, 0, columns), dims);
  }
}

/** The type in which operands meet. */
function commonElement(values: readonly Plain[]): Element {
  const { element } = values[0]!;
  if (!isFloat(element)) return element;
  const strong = values.filter(({ isWeak }) => !isWeak);
  if (strong.length === 0) return 'f32';
  return strong.every((value) => value.element === 'bf16') ? 'bf16' : 'f32';
}
