/** Lower triangular matrices, and their decomposition into pairs of blocks. */
import { ShapeError } from '../../errors.js';
import type { Dim } from '../shape.js';
import { applyOne, defineComposite, type Tensor } from '../tensor.js';
import { reshape } from './broadcast.js';
import { constant, iota, zeros } from './constant.js';
import { cast, equal, less, multiply, negate, subtract } from './elementwise.js';
import { concat, slice } from './layout.js';
import { matmul } from './matmul.js';

/** Sizes of the blocks that a matrix of `size` rows has below its diagonal: 1, 2, 4, ... */
export function blockSizes(size: number): number[] {
  const sizes: number[] = [];
  for (let block = 1; block < size; block *= 2) sizes.push(block);
  return sizes;
}

/**
 * A mask [size, size] over pairs of consecutive blocks of `block` rows: 1 where the row is in the second block of a pair and the column in
 * the first, else 0. The masks of all `blockSizes` together cover each entry below the diagonal once.
 */
export function pairMask(size: number, block: number): Tensor {
  // Rows and columns of a pair get the pair's number; all others get numbers that never match.
  const pairs = (isSecond: boolean): Tensor =>
    constant(
      Int32Array.from({ length: size }, (_, i) =>
        i % (2 * block) >= block === isSecond ? Math.floor(i / (2 * block)) : isSecond ? -1 : -2,
      ),
      [size],
    );
  return cast(equal(reshape(pairs(true), [size, 1]), pairs(false)), 'float32');
}

/** The matrix [size, size] that is 1 on the diagonal, else 0. */
export function identity(size: Dim): Tensor {
  const places = iota(size, 'int32');
  return cast(equal(reshape(places, [size, 1]), places), 'float32');
}

const inverseOperator = defineComposite<null>({
  name: 'unitTriangularInverse',
  infer([a]) {
    const size = a!.shape.at(-1);
    if (a!.dtype !== 'float32' || typeof size !== 'number' || a!.shape.at(-2) !== size) {
      throw new ShapeError('expected square float32 matrices of a size that is a number');
    }
    return [{ dtype: 'float32', shape: a!.shape }];
  },
  gradient({ inputs: [a], outputs: [inverse], outputGradients: [g] }) {
    // d(T) = -T d(A) T
    const left = matmul(inverse!, g!, { transposeA: true, wide: true });
    const through = matmul(left, inverse!, { transposeB: true, wide: true });
    const places = iota(a!.shape.at(-1)!, 'int32');
    const below = cast(less(places, reshape(places, [-1, 1])), 'float32');
    return [negate(multiply(through, below))];
  },
  expand([a]) {
    const size = a!.shape.at(-1) as number;
    const isCut = size > SMALL && Number.isInteger(Math.log2(size / SMALL));
    if (!isCut) return [inverseOfSmall(a!)];
    const blocks = fromDiagonal(a!, SMALL, 0);
    return [
      fromBlocks(inverseOfSmall(blocks), (upper, lower, block) =>
        negate(matmul(matmul(lower, fromDiagonal(a!, block, 1), { wide: true }), upper, { wide: true })),
      ),
    ];
  },
});

/** The size up to which blocks are computed as full matrices with zeros: smaller products would cost more than they save. */
export const SMALL = 16;

/** The inverse of [[T, 0], [B, U]] is [[T', 0], [-U' B T', U']]: from blocks on the diagonal to those of twice their size. */
function inverseOfSmall(a: Tensor): Tensor {
  const size = a.shape.at(-1) as number;
  return blockSizes(size).reduce<Tensor>((inverse, block) => {
    const between = multiply(a, pairMask(size, block));
    return subtract(
      inverse,
      block === 1 ? between : matmul(matmul(inverse, between, { wide: true }), inverse, { wide: true }),
    );
  }, identity(size));
}

/** The diagonal blocks of A [..., size, size], or with `below` the block below the diagonal in each pair of them: [..., blocks or pairs, block, block]. */
export function fromDiagonal(a: Tensor, block: number, below: 0 | 1): Tensor {
  const size = a.shape.at(-1) as number;
  const count = size / block / (1 + below);
  const leading = a.shape.slice(0, -2);
  const blocks = Array.from({ length: count }, (_, i) => {
    const column = i * (1 + below);
    const rows = slice(a, -2, (column + below) * block, (column + below + 1) * block);
    return reshape(slice(rows, -1, column * block, (column + 1) * block), [...leading, 1, block, block]);
  });
  return concat(blocks, -3);
}

/**
 * Assembles a lower triangular matrix [..., size, size] from its diagonal blocks [..., count, block, block]. `between` returns the block below
 * the diagonal of each pair [..., pairs, block, block], for blocks of this size, then of twice the size, and so on.
 */
export function fromBlocks(
  diagonal: Tensor,
  between: (upper: Tensor, lower: Tensor, block: number) => Tensor,
): Tensor {
  const leading = diagonal.shape.slice(0, -3);
  let all = diagonal;
  for (let count = all.shape.at(-3) as number; count > 1; count /= 2) {
    const block = all.shape.at(-1) as number;
    const pairs = reshape(all, [...leading, count / 2, 2 * block, block]);
    const [upper, lower] = [slice(pairs, -2, 0, block), slice(pairs, -2, block, 2 * block)];
    const above = zeros([...leading, count / 2, block, block]);
    all = concat([concat([upper, above], -1), concat([between(upper, lower, block), lower], -1)], -2);
  }
  return reshape(all, [...leading, ...all.shape.slice(-2)]);
}

/** The inverse of I + A for A [..., size, size], of which only the entries below the diagonal are read. */
export function unitTriangularInverse(a: Tensor): Tensor {
  return applyOne(inverseOperator, [a], null);
}
