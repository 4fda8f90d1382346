/** Matrix products, with batches. */

import { ShapeError } from '../../errors.js';
import type { OnnxBuilder } from '../lower/onnx/builder.js';
import { packedProduct, packedProducts, widened } from '../lower/onnx/packed.js';
import { hloMatmul } from '../lower/stablehlo/matmul.js';
import { matmulInWasm } from '../lower/wasm/operators.js';
import { broadcastShapes, type Shape } from '../shape.js';
import { applyOne, definePrimitive, type Tensor } from '../tensor.js';
import { reshape, sumTo } from './broadcast.js';

interface MatmulAttributes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  /** Whether it is computed in float32 even on mixed-precision devices. */
  readonly wide?: boolean;
}

const matmulOperator = definePrimitive<MatmulAttributes>({
  name: 'matmul',
  infer([a, b], { transposeA, transposeB }) {
    if (a!.dtype !== 'float32' || b!.dtype !== 'float32')
      throw new ShapeError('both operands must be float32');
    if (a!.shape.length < 2 || b!.shape.length < 2)
      throw new ShapeError('both operands must have rank 2 or more');
    const [m, k] = lastTwo(a!.shape, transposeA);
    const [inner, n] = lastTwo(b!.shape, transposeB);
    if (k !== inner) throw new ShapeError(`the inner dimensions differ: ${k} and ${inner}`);
    const batch = broadcastShapes(a!.shape.slice(0, -2), b!.shape.slice(0, -2));
    if (!batch) throw new ShapeError('the batch dimensions do not broadcast');
    return [{ dtype: 'float32', shape: [...batch, m!, n!] }];
  },
  gradient({
    inputs,
    attributes: { transposeA, transposeB, wide = false },
    outputGradients: [gradient],
    needs,
  }) {
    const [a, b] = inputs as [Tensor, Tensor];
    const g = gradient!;
    const gradientA = (): Tensor =>
      transposeA
        ? matmul(b, g, { transposeA: transposeB, transposeB: true, wide })
        : matmul(g, b, { transposeB: !transposeB, wide });
    const gradientB = (): Tensor => {
      // One product over all rows of the batch, instead of a batch of products and their sum.
      const flat = b.rank === 2 && !transposeA;
      const rows = flat ? reshape(a, [-1, a.shape.at(-1)!]) : a;
      const rowGradients = flat ? reshape(g, [-1, g.shape.at(-1)!]) : g;
      return transposeB
        ? matmul(rowGradients, rows, { transposeA: true, transposeB: transposeA, wide })
        : matmul(rows, rowGradients, { transposeA: !transposeA, wide });
    };
    return [
      needs(0) ? sumTo(gradientA(), a.shape) : undefined,
      needs(1) ? sumTo(gradientB(), b.shape) : undefined,
    ];
  },
  lower: {
    onnx(builder, [a, packed], { attributes: { transposeA, transposeB }, inputs, outputs }) {
      const given = builder.quantized.get(packed!);
      // Kernels for quantized matrices compute only x W^T; gradients need x W.
      const matrix = transposeB && !transposeA ? given : undefined;
      const b = given && !matrix ? widened(builder, given, inputs[1]!.rank) : packed;
      const integers =
        matrix && builder.fused.has('MatMulIntegerToFloat') && isLong(inputs[0]!.shape)
          ? matrix.integers()
          : undefined;
      if (integers) return integerProduct(builder, a!, integers);
      if (matrix && inputs[1]!.rank > 2) return packedProducts(builder, a!, inputs[0]!.rank > 2, matrix);
      if (matrix) return packedProduct(builder, a!, matrix);
      if (!transposeA && !transposeB) return builder.emit('MatMul', [a!, b!]);
      const ranks = inputs.map((operand) => operand!.rank);
      const flags = { transA: { int: Number(transposeA) }, transB: { int: Number(transposeB) } };
      if (ranks[0] === 2 && ranks[1] === 2) return builder.emit('Gemm', [a!, b!], { attributes: flags });
      if (builder.fused.has('FusedMatMul')) {
        return builder.emit('FusedMatMul', [a!, b!], { domain: 'com.microsoft', attributes: flags });
      }
      if (ranks[1] === 2 && !transposeA) {
        // All rows of the batch in one product.
        const width = builder.resolve(inputs[0]!.shape.at(-1)!);
        const rows = builder.emit('Reshape', [a!, builder.shape([-1, width])])[0]!;
        const product = builder.emit('Gemm', [rows, b!], { attributes: flags })[0]!;
        return builder.emit('Reshape', [product, builder.shape(outputs[0]!.shape)]);
      }
      return builder.emit('MatMul', [
        transposeA ? swapLastTwo(builder, a!, ranks[0]!) : a!,
        transposeB ? swapLastTwo(builder, b!, ranks[1]!) : b!,
      ]);
    },
    wasm: (builder, [a, b], { attributes }) => [matmulInWasm(builder, a!, b!, attributes)],
    stablehlo: hloMatmul,
  },
});

function lastTwo(shape: Shape, transposed: boolean): Shape {
  const [rows, columns] = shape.slice(-2);
  return transposed ? [columns!, rows!] : [rows!, columns!];
}

function swapLastTwo(builder: OnnxBuilder, x: string, rank: number): string {
  const perm = Array.from({ length: rank }, (_, i) => i);
  perm.splice(-2, 2, rank - 1, rank - 2);
  return builder.emit('Transpose', [x], { attributes: { perm: { ints: perm } } })[0]!;
}

/**
 * The matrix product over the last two axes: [..., m, k] x [..., k, n] -> [..., m, n], with broadcasting of leading axes. `transposeA` and
 * `transposeB` transpose an operand's last two axes first.
 */
export function matmul(a: Tensor, b: Tensor, options: Partial<MatmulAttributes> = {}): Tensor {
  const { transposeA = false, transposeB = false, wide = false } = options;
  return applyOne(matmulOperator, [a, b], { transposeA, transposeB, ...(wide && { wide }) });
}

/** Whether a shape has sequences of several tokens (prefill) rather than one token each (decoding). */
function isLong(shape: Shape): boolean {
  return shape.length > 2 && shape.at(-2) !== 1;
}

/**
 * x [..., columns] times a quantized matrix, both as 8-bit integers, with one scale for each row of x. Processors have instructions for tiles of
 * such products, which pay off for many rows.
 */
function integerProduct(
  builder: OnnxBuilder,
  x: string,
  { values, scales }: { values: string; scales: string },
): string[] {
  const emit = (op: string, ...operands: string[]): string => builder.emit(op, operands)[0]!;
  const largest = emit('ReduceMax', emit('Abs', x), builder.ints([-1]));
  const scale = emit('Max', emit('Div', largest, builder.scalar(127)), builder.scalar(1e-30));
  const one = builder.scalar(1);
  const zero = builder.scalar(128, 'uint8');
  const integers = emit('QuantizeLinear', emit('Div', x, scale), one, zero);
  const [product] = builder.emit('MatMulIntegerToFloat', [integers, values, one, scales, zero], {
    domain: 'com.microsoft',
  });
  return builder.emit('Mul', [product!, scale]);
}
