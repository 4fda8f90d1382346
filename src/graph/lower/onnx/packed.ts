/** Products with block-quantized matrices. */
import type { OnnxBuilder, QuantizedOperand } from './builder.js';

/** x [..., columns] W^T: [..., rows]. With several matrices, `which` is the name of the index of one. */
export function packedProduct(
  builder: OnnxBuilder,
  x: string,
  matrix: QuantizedOperand,
  which?: string,
): string[] {
  const part = (operand: string): string =>
    which === undefined ? operand : builder.emit('Gather', [operand, which])[0]!;
  return builder.emit('MatMulNBits', [x, part(matrix.codes(true)), part(matrix.scales())], {
    domain: 'com.microsoft',
    attributes: {
      K: { int: matrix.columns },
      N: { int: matrix.rows },
      bits: { int: matrix.bits },
      block_size: { int: matrix.block },
      // Products in 8-bit integers: several times faster than in float32.
      accuracy_level: { int: 4 },
    },
  });
}

/** Products with each of several matrices, [count, ..., rows]: of one x, or of an x [count, ..., columns] for each matrix. */
export function packedProducts(
  builder: OnnxBuilder,
  x: string,
  isEach: boolean,
  matrices: QuantizedOperand,
): string[] {
  const products = Array.from({ length: matrices.count }, (_, i) => {
    const which = builder.scalar(i, 'int64');
    const own = isEach ? builder.emit('Gather', [x, which])[0]! : x;
    const [product] = packedProduct(builder, own, matrices, which);
    return builder.emit('Unsqueeze', [product!, builder.ints([0])])[0]!;
  });
  return builder.emit('Concat', products, { attributes: { axis: { int: 0 } } });
}

/** Dequantizes to float32: [rows, columns] with rank 2, or [count, rows, columns] with rank 3. */
export function widened(builder: OnnxBuilder, matrix: QuantizedOperand, rank: number): string {
  const { rows, columns, block, bits } = matrix;
  const entries = Array.from({ length: rank === 2 ? rows : matrix.count }, (_, i) => i);
  const [whole] = builder.emit(
    'GatherBlockQuantized',
    [matrix.codes(false), builder.ints(entries), matrix.scales()],
    {
      domain: 'com.microsoft',
      attributes: {
        bits: { int: bits },
        block_size: { int: block },
        gather_axis: { int: 0 },
        quantize_axis: { int: rank - 1 },
      },
    },
  );
  if (columns % block === 0) return whole!;
  const [start, end, axis] = [[0], [columns], [rank - 1]].map((numbers) => builder.ints(numbers));
  return builder.emit('Slice', [whole!, start!, end!, axis!])[0]!;
}
