/**
 * Products of rows with exponential decay over the steps between them, and a separate rate for each dimension: with cumulative log decays c,
 *
 *     P_ij = sum over d of x_id y_jd exp(c_id - c_jd)    for j <= i, else 0,
 *
 * for each of several x and each of several y at once. Every exponent is at most 0, so decays may underflow but nothing overflows. The product is
 * a sum over block sizes 1, 2, 4, ... steps: for a step i after a block boundary b and a step j before it, exp(c_i - c_j) = exp(c_i - c_b) exp(c_b
 * - c_j). On the diagonal there is no decay.
 *
 * The gradient reuses the same factors without differentiating them: dL/dc is x dx - y dy, summed over all x and all y
 * (as in flash-linear-attention's chunked gated linear attention).
 */
import { ShapeError } from '../../errors.js';
import { type Dim, sameShape } from '../shape.js';
import { apply, defineComposite, type Tensor } from '../tensor.js';
import { reshape } from './broadcast.js';
import { zeros } from './constant.js';
import { add, exp, multiply, narrow, subtract, wide } from './elementwise.js';
import { concat, slice } from './layout.js';
import { matmul } from './matmul.js';
import { blockSizes, fromBlocks, fromDiagonal, identity, pairMask, SMALL } from './triangular.js';

interface Counts {
  readonly xs: number;
  readonly ys: number;
}

const productsOperator = defineComposite<Counts>({
  name: 'decayedProducts',
  infer(operands, { xs, ys }) {
    const { shape } = operands[0]!;
    if (operands.some((operand) => operand!.dtype !== 'float32' || !sameShape(operand!.shape, shape)))
      throw new ShapeError('expected float32 operands of one shape');
    const [rows, members, steps] = shape;
    if (shape.length !== 4 || typeof steps !== 'number' || !Number.isInteger(Math.log2(steps)))
      throw new ShapeError('expected [rows, members, steps, size], the steps a power of two');
    const product = { dtype: 'float32' as const, shape: [rows!, members!, steps, steps] };
    return Array.from({ length: xs * ys }, () => product);
  },
  expand(operands, counts) {
    const { xs, ys, blocks } = partsOf(operands as Tensor[], counts);
    const { small } = blocks;
    const inSmall = blocks.levels.reduce<Tensor | undefined>((total, { x, y, mask }) => {
      const own = multiply(matmul(x(xs), y(ys), { transposeB: true }), tiled(mask, counts));
      return total ? add(total, own) : own;
    }, undefined)!;
    const between = new Map(
      blocks.halves.map(({ size, x, y }) => [size, matmul(x(xs), y(ys), { transposeB: true })]),
    );
    return Array.from({ length: counts.xs * counts.ys }, (_, n) => {
      const [i, j] = [Math.floor(n / counts.ys), n % counts.ys];
      const own = (all: Tensor, size: number): Tensor =>
        slice(slice(all, -2, i * size, (i + 1) * size), -1, j * size, (j + 1) * size);
      return fromBlocks(own(inSmall, small), (_upper, _lower, size) => own(between.get(size)!, size));
    });
  },
  gradient({ inputs, outputs, outputGradients, attributes: counts }) {
    const { xs, ys, blocks } = partsOf(inputs as Tensor[], counts);
    const { shape } = xs[0]!;
    /** The gradients of all products in their blocks of a size, together: [..., xs * size, ys * size]. */
    const gradients = (size: number, below: 0 | 1): Tensor => {
      const each = outputGradients.map((g, n) => fromDiagonal(g ?? zeros(outputs[n]!.shape), size, below));
      const row = (i: number): Tensor => concat(each.slice(i * counts.ys, (i + 1) * counts.ys), -1);
      return concat(
        Array.from({ length: counts.xs }, (_, i) => row(i)),
        -2,
      );
    };
    const small = gradients(blocks.small, 0);
    /** The gradients through the products of some levels: [rows, members, steps, keySize] for each operand. */
    const through = (levels: typeof blocks.levels): [Tensor[], Tensor[]] => {
      const sums = levels.reduce<readonly Tensor[]>((totals, { x, y, mask, open }) => {
        const own = multiply(small, tiled(mask, counts));
        const parts = [
          open(matmul(own, y(ys)), counts.xs),
          open(matmul(own, x(xs), { transposeA: true }), counts.ys),
        ];
        return parts.map((part, i) => (totals[i] ? add(totals[i], part) : part));
      }, []);
      const [dX, dY] = sums.map((all, n) =>
        Array.from({ length: n === 0 ? counts.xs : counts.ys }, (_, i) =>
          reshape(slice(all, 3, i, i + 1), shape),
        ),
      );
      return [dX!, dY!];
    };
    const [diagonal, ...others] = blocks.levels;
    const [xDiagonal, yDiagonal] = through([diagonal!]);
    if (others.length === 0) return [...xDiagonal, ...yDiagonal, zeros(shape)];
    let [dxs, dys] = through(others);
    for (const { size, x, y, later, earlier } of blocks.halves) {
      const own = gradients(size, 1);
      const laterParts = later(matmul(own, y(ys)), counts.xs);
      const earlierParts = earlier(matmul(own, x(xs), { transposeA: true }), counts.ys);
      dxs = dxs.map((dx, i) => add(dx, laterParts[i]!));
      dys = dys.map((dy, i) => add(dy, earlierParts[i]!));
    }
    const along = (operands: readonly Tensor[], parts: readonly Tensor[]): Tensor =>
      operands.map((operand, i) => wide(multiply(operand, parts[i]!))).reduce((a, b) => add(a, b));
    // The diagonal has no decay; its contribution would be the difference of two equal numbers.
    const dSums = subtract(along(xs, dxs), along(ys, dys));
    return [
      ...dxs.map((dx, i) => add(dx, xDiagonal[i]!)),
      ...dys.map((dy, i) => add(dy, yDiagonal[i]!)),
      dSums,
    ];
  },
});

function partsOf(operands: readonly Tensor[], counts: Counts) {
  const xs = operands.slice(0, counts.xs);
  const ys = operands.slice(counts.xs, counts.xs + counts.ys);
  return { xs, ys, blocks: blocksOf(operands.at(-1)!) };
}

/** The decomposition of the rows into blocks of each size, with the decay factors. */
function blocksOf(sums: Tensor) {
  const [rows, members, steps, keySize] = sums.shape as [Dim, Dim, number, Dim];
  const small = Math.min(steps, SMALL);
  const count = steps / small;
  /** [rows, members, pairs, 2 * size, keySize] */
  const pairsOf = (x: Tensor, size: number): Tensor =>
    reshape(x, [rows, members, steps / size / 2, 2 * size, keySize]);
  const halfOf = (x: Tensor, size: number, from: 0 | 1): Tensor =>
    slice(pairsOf(x, size), 3, from * size, (from + 1) * size);
  const boundaryOf = (size: number): Tensor => slice(pairsOf(sums, size), 3, size - 1, size);
  const shared = (factors: Tensor, length: number, blocks: number): Tensor =>
    reshape(factors, [rows, members, blocks, 1, length, keySize]);

  /** Several operands in blocks, stacked, times the factors: [rows, members, blocks, operands * length, keySize]. */
  const stacked = (parts: readonly Tensor[], factors: Tensor | undefined, length: number, blocks: number) => {
    const together = concat(
      parts.map((part) => reshape(part, [rows, members, blocks, 1, length, keySize])),
      3,
    );
    const decayed = factors ? multiply(together, factors) : together;
    return reshape(decayed, [rows, members, blocks, parts.length * length, keySize]);
  };

  // Small blocks are multiplied as a whole, and a mask selects the entries of each level.
  const levels = [0, ...blockSizes(small)].map((size) => {
    const factors = size === 0 ? undefined : shared(fromBoundary(size), small, count);
    const all = (parts: readonly Tensor[]): Tensor => stacked(parts, factors, small, count);
    return {
      mask: size === 0 ? identity(small) : pairMask(small, size),
      x: all,
      y: all,
      /** The gradients of the operands: [rows, members, blocks, operands, steps, keySize]. */
      open: (part: Tensor, operands: number): Tensor => {
        const own = reshape(part, [rows, members, count, operands, small, keySize]);
        return factors ? multiply(own, factors) : own;
      },
    };
  });

  /** The decay between each step and the boundary in the middle of its pair of blocks. */
  function fromBoundary(size: number): Tensor {
    const pairs = pairsOf(sums, size);
    const distance = subtract(pairs, boundaryOf(size));
    const [before, after] = [slice(distance, 3, 0, size), slice(distance, 3, size, 2 * size)];
    return narrow(exp(concat([subtract(0, before), after], 3)));
  }

  const halves = blockSizes(steps)
    .filter((size) => size >= small)
    .map((size) => {
      const pairs = steps / size / 2;
      const boundary = boundaryOf(size);
      const after = narrow(exp(subtract(halfOf(sums, size, 1), boundary)));
      const before = narrow(exp(subtract(boundary, halfOf(sums, size, 0))));
      const half = (factors: Tensor, from: 0 | 1) => (parts: readonly Tensor[]) =>
        stacked(
          parts.map((part) => halfOf(part, size, from)),
          shared(factors, size, pairs),
          size,
          pairs,
        );
      /** The gradients of one half of the steps, [rows, members, steps, keySize] for each operand; zeros in the other. */
      const back =
        (factors: Tensor, from: 0 | 1) =>
        (part: Tensor, operands: number): Tensor[] =>
          Array.from({ length: operands }, (_, i) => {
            const own = multiply(slice(part, 3, i * size, (i + 1) * size), factors);
            const rest = zeros([rows, members, pairs, size, keySize]);
            return reshape(concat(from === 1 ? [rest, own] : [own, rest], 3), sums.shape);
          });
      return {
        size,
        x: half(after, 1),
        y: half(before, 0),
        later: back(after, 1),
        earlier: back(before, 0),
      };
    });
  return { small, levels, halves };
}

/** Repeats the mask of one product for all products, [xs * size, ys * size]. */
function tiled(mask: Tensor, { xs, ys }: Counts): Tensor {
  const row = concat(
    Array.from({ length: ys }, () => mask),
    1,
  );
  return concat(
    Array.from({ length: xs }, () => row),
    0,
  );
}

/**
 * The products of each x with each y for cumulative log decays `sums`, which never increase from one step to the next; all are
 * [rows, members, steps, size] with a power of two as the number of steps. Returns for each x a list of [rows, members, steps, steps].
 */
export function decayedProducts(xs: readonly Tensor[], ys: readonly Tensor[], sums: Tensor): Tensor[][] {
  const counts = { xs: xs.length, ys: ys.length };
  const products = apply(productsOperator, [...xs, ...ys, sums], counts) as Tensor[];
  return xs.map((_, i) => products.slice(i * ys.length, (i + 1) * ys.length));
}
