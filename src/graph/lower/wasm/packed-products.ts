/**
 * Products with quantized matrices. The rows of the other operand are quantized first, so that products are in integers. An RMS norm before a
 * product is fused with the quantization.
 */
import type { WasmBuilder } from './builder.js';
import { Kernel } from './codes.js';
import { PRODUCT_UNIT } from './share.js';
import { floatBits, type Word } from './step.js';
import { Buffer, count, idOf, isContiguous, type Packed, type Value, type View } from './value.js';

/** The rows of a float32 operand, with a constant stride in a buffer. */
export interface Rows {
  readonly buffer: Buffer;
  /** The offset of the first row, in bytes. */
  readonly bytes: number;
  /** The stride of rows in bytes. */
  readonly stride: number;
}

/** Up to this many rows, each thread quantizes its own copy; more rows are quantized once, by all threads, which needs a barrier. */
const MOST_OWN_ROWS = 2;

/** Emits RMS norms, quantizations and products of a program, and tracks which operands are normed or quantized already. */
export class PackedProducts {
  private readonly norms = new Map<
    Buffer,
    { x: Rows; size: number; weight: Buffer; weightBytes: number; epsilon: number }
  >();
  private readonly quantized = new Map<string, Buffer>();

  constructor(private readonly builder: WasmBuilder) {}

  /** x / rms(x) * weight along the last axis, and with `withInverse` also 1 / rms(x). */
  rmsNorm(input: Value, weight: Value, epsilon: number, withInverse: boolean): View[] {
    const x = this.builder.rows(input);
    const by = this.builder.contiguous(weight);
    const { dims } = input;
    const size = dims.at(-1)!;
    const to = this.builder.allocate(dims, 'float32', [x.buffer, by.buffer]);
    const inverse = withInverse
      ? this.builder.allocate([...dims.slice(0, -1), 1], 'float32', [x.buffer, by.buffer])
      : undefined;
    const rows = count(dims) / Math.max(1, size);
    this.builder.step(
      Kernel.rmsNorm,
      [
        rows,
        size,
        { buffer: x.buffer, bytes: x.bytes },
        x.stride,
        this.builder.at(by),
        floatBits(epsilon),
        this.builder.at(to),
        inverse ? this.builder.at(inverse) : 0,
      ],
      { reads: [x.buffer, by.buffer], writes: [to.buffer, ...(inverse ? [inverse.buffer] : [])] },
    );
    this.norms.set(to.buffer, { x, size, weight: by.buffer, weightBytes: 4 * by.offset, epsilon });
    return inverse ? [to, inverse] : [to];
  }

  /**
   * The arguments of kernels that quantize the rows of an operand [..., k] in blocks. If the operand is the result of `rmsNorm`, the kernels norm
   * and quantize the norm's operand instead, so that the norm's result may become unused.
   */
  private quantization(input: Value, bits: 4 | 8, block: number) {
    const k = input.dims.at(-1)!;
    const m = count(input.dims.slice(0, -1));
    const view = input.kind === 'view' && isContiguous(input) && input.offset === 0 ? input : undefined;
    const known =
      view && count(view.dims) * 4 === view.buffer.bytes ? this.norms.get(view.buffer) : undefined;
    // A norm over parts of a row, such as heads, is not a norm of the rows of this product.
    const norm = known?.size === k ? known : undefined;
    const x = norm?.x ?? this.builder.rows(input);
    const blocks = Math.ceil(k / block);
    const weight = norm ? { buffer: norm.weight, bytes: norm.weightBytes } : 0;
    const place = { buffer: x.buffer, bytes: x.bytes };
    const head: Word[] = [m, k, bits, block, place, x.stride, weight, floatBits(norm?.epsilon ?? 0)];
    const from = [x.buffer, ...(norm ? [norm.weight] : [])];
    return {
      head,
      from,
      isConstant: from.every((buffer) => buffer.isConstant),
      norm,
      /** The bytes of all quantized rows. */
      bytes: m * ((blocks * block * 2 + blocks * 8 + 15) & ~15),
    };
  }

  /** The rows of an operand [..., k], quantized by a separate step. `inFours`: in the layout for products of four rows at once. */
  quantizedRows(input: Value, bits: 4 | 8, block: number, inFours: boolean): Buffer {
    const { head, from, bytes, isConstant } = this.quantization(input, bits, block);
    const key = [
      inFours,
      ...head.map((word) =>
        typeof word === 'object' && 'buffer' in word ? `${idOf(word.buffer)}+${word.bytes}` : word,
      ),
    ].join();
    const known = this.quantized.get(key);
    if (known) return known;
    const rows = new Buffer(bytes, undefined, isConstant);
    this.quantized.set(key, rows);
    const words = [...head, { buffer: rows, bytes: 0 }, inFours ? head[0]! : 0];
    this.builder.step(Kernel.quantize, words, { reads: from, writes: [rows] });
    return rows;
  }

  /** x [..., k] times the rows of a packed matrix [n, k]: [..., n]. */
  packedMatmul(input: Value, matrix: Packed): View {
    const { bits, block, codes, scales } = matrix;
    const [n, k] = matrix.dims as [number, number];
    const dims = [...input.dims.slice(0, -1), n];
    const m = count(dims.slice(0, -1));
    const isOwn = m <= MOST_OWN_ROWS;
    const { head, from, norm, bytes, isConstant } = this.quantization(input, bits, block);
    const rows = isOwn
      ? new Buffer(this.builder.threads * bytes, undefined, isConstant)
      : this.quantizedRows(input, bits, block, true);
    const to = this.builder.allocate(dims, 'float32', [...from, codes]);
    this.builder.step(
      Kernel.packedMatmul,
      [
        ...head,
        { buffer: rows, bytes: 0 },
        isOwn ? bytes : 0,
        n,
        { buffer: codes, bytes: 0 },
        { buffer: scales, bytes: 0 },
        this.builder.at(to),
      ],
      {
        reads: [...from, ...(isOwn ? [] : [rows]), codes, scales],
        writes: [to.buffer, ...(isOwn ? [rows] : [])],
        label: `${norm ? 'rmsNorm ' : ''}matmul [${n},${k}] ${bits} bits`,
        weightBytes: codes.bytes + scales.bytes,
        // Each thread computes its part of every quarter of the rows.
        ...(n % (4 * PRODUCT_UNIT) === 0 && { share: { length: n / 4, unit: PRODUCT_UNIT, along: [] } }),
      },
    );
    return to;
  }
}
