/** Products with matrices in blocks of few bits. */
import type { OnnxBuilder, QuantizedOperand } from './builder.js';

/** x [..., columns] times the rows of a matrix: [..., rows]. Of several matrices `which` names the index of one. */
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
      // Products of 8-bit integers: several times faster than in float32.
      accuracy_level: { int: 4 },
    },
  });
}

/** The products with each of several matrices, [count, ..., rows]: of one x, or of an x [count, ..., columns] for each. */
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
