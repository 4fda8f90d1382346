/** Sums, maxima and cumulative sums. */
import type { StableHloBuilder, StableHloLowering } from './builder.js';
import { isFloat, type Plain, replaced, type Value } from './value.js';

interface Reduction {
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

/** Lowers a sum, which is accumulated in float32 for all floats. */
export const hloSum: StableHloLowering<Reduction> = (builder, [x], { attributes }) => {
  const given = builder.plain(x!);
  const total = builder.reduce('add', isFloat(given.element) ? builder.wide(given) : given, attributes.axes);
  return [kept(builder, total, given.dims, attributes)];
};

/** Lowers the maximum over axes. */
export const hloMax: StableHloLowering<Reduction> = (builder, [x], { attributes }) => {
  const given = builder.plain(x!);
  return [kept(builder, builder.reduce('maximum', given, attributes.axes), given.dims, attributes)];
};

/** A reduction's result, with its axes kept as size 1 on request. */
function kept(
  builder: StableHloBuilder,
  y: Plain,
  dims: readonly number[],
  { axes, keepDims }: Reduction,
): Plain {
  return keepDims
    ? builder.reshape(
        y,
        dims.map((size, axis) => (axes.includes(axis) ? 1 : size)),
      )
    : y;
}

/** The block of a cumulative sum, which is a product with a triangular matrix. */
const BLOCK = 128;

/** y[i] = x[0] + ... + x[i] along an axis, or from the other end; floats in float32. */
export function cumulativeSum(
  builder: StableHloBuilder,
  value: Value,
  axis: number,
  reverse: boolean,
): Plain {
  const given = builder.plain(value);
  if (!isFloat(given.element)) return doubling(builder, given, axis, reverse);
  return inBlocks(builder, builder.wide(given), axis, reverse);
}

/** A cumulative sum by doubling: the blocks double in each pass. It is exact for integers. */
function doubling(builder: StableHloBuilder, x: Plain, axis: number, reverse: boolean): Plain {
  const size = x.dims[axis]!;
  let sums = x;
  for (let shift = 1; shift < size; shift *= 2) {
    const moved = reverse
      ? builder.pad(builder.slice(sums, axis, shift, size), axis, 0, shift)
      : builder.pad(builder.slice(sums, axis, 0, size - shift), axis, shift, 0);
    sums = builder.binary('add', sums, moved);
  }
  return sums;
}

/** A cumulative sum in blocks: a product with a triangular matrix of ones, plus the sum of the preceding blocks. */
function inBlocks(builder: StableHloBuilder, x: Plain, axis: number, reverse: boolean): Plain {
  const size = x.dims[axis]!;
  if (size === 0) return x;
  const length = Math.min(BLOCK, size);
  const blocks = Math.ceil(size / length);
  const rest = blocks * length - size;
  const whole = rest === 0 ? x : builder.pad(x, axis, 0, rest);
  const dims = [...x.dims.slice(0, axis), blocks, length, ...x.dims.slice(axis + 1)];
  const cut = builder.reshape(whole, dims);
  const [from, to] = [0, 1].map((i) => builder.iota([length, length], i, 'i32')) as [Plain, Plain];
  const counts = builder.as(builder.compare(reverse ? 'GE' : 'LE', from, to), 'f32');
  const product = builder.dot(cut, counts, { batch: [], contract: [[axis + 1, 0]] }, 'f32', true);
  // The product has the summed axis last.
  const last = dims.length - 1;
  const order = dims.map((_, i) => (i <= axis ? i : i === axis + 1 ? last : i - 1));
  let sums = builder.transpose(product, order);
  if (blocks > 1) {
    const edge = reverse ? 0 : length - 1;
    const totals = builder.reshape(builder.slice(sums, axis + 1, edge, edge + 1), removed(dims, axis + 1));
    const running = inBlocks(builder, totals, axis, reverse);
    const before = builder.binary('subtract', running, totals);
    sums = builder.binary('add', sums, builder.reshape(before, replaced(dims, axis + 1, 1)));
  }
  return builder.slice(builder.reshape(sums, whole.dims), axis, 0, size);
}

function removed(dims: readonly number[], axis: number): number[] {
  return dims.filter((_, i) => i !== axis);
}
