/**
 * Rotary position embedding (Su et al., 2021), in the layout of Llama: the first half of the rotated dimensions of a head is paired with the second
 * half; the remaining dimensions are not rotated.
 */
import {
  add,
  cast,
  concat,
  constant,
  cos,
  type Dim,
  divide,
  iota,
  multiply,
  reshape,
  sin,
  split,
  subtract,
  type Tensor,
} from '../graph/index.js';

/** The frequencies of rotary position embedding (Su et al., 2021, arXiv 2104.09864). */
export interface RopeConfig {
  /** Radians per token, for each pair of rotated dimensions. */
  frequencies: Float32Array;
  /** Multiplies the rotated part; 1 by default. */
  factor?: number;
}

/** theta^(-i / pairs) for each pair of a head's `size` rotating elements. */
export function ropeFrequencies(theta: number, size: number): Float32Array {
  const pairs = size / 2;
  return Float32Array.from({ length: pairs }, (_, i) => theta ** (-i / pairs));
}

/** The stride: angles of positions below it are plain float32 products. */
const STRIDE = 4096;

/**
 * The angle of each position and frequency, float32 [batch or 1, 1, sequence, pairs]. A float32 product would be off by half a radian after 16
 * million tokens. So a position is split into strides and a remainder, and the angle of a stride, modulo full turns, is computed in float64. Angles
 * are then accurate to 2e-3 up to 16 million tokens; those of the first stride are plain products.
 */
function anglesOf(position: Tensor, sequence: Dim, frequencies: Float32Array): Tensor {
  const positions = reshape(add(iota(sequence), reshape(position, [-1, 1])), [-1, 1, sequence, 1]);
  const strides = divide(positions, STRIDE);
  const rest = subtract(positions, multiply(strides, STRIDE));
  const turned = frequencies.map((frequency) => {
    const turns = (STRIDE * frequency) / (2 * Math.PI);
    return 2 * Math.PI * (turns - Math.round(turns));
  });
  const times = (count: Tensor, each: Float32Array): Tensor =>
    multiply(cast(count, 'float32'), constant(each, [each.length]));
  return add(times(rest, frequencies), times(strides, turned));
}

/** Rotates x [batch, heads, sequence, size] by the positions of its tokens, starting at `position` (int64 [] or [batch]). */
export function rotate(x: Tensor, position: Tensor, { frequencies, factor = 1 }: RopeConfig): Tensor {
  const size = x.shape[3] as number;
  const half = frequencies.length;
  const angles = anglesOf(position, x.shape[2]!, frequencies);
  const rest = size - 2 * half;
  const [first, second, still] = split(x, -1, rest > 0 ? [half, half, rest] : [half, half]) as [
    Tensor,
    Tensor,
    Tensor | undefined,
  ];
  const scaled = (values: Tensor): Tensor => (factor === 1 ? values : multiply(values, factor));
  const c = scaled(cos(angles));
  const s = scaled(sin(angles));
  const turned = [
    subtract(multiply(first, c), multiply(second, s)),
    add(multiply(second, c), multiply(first, s)),
  ];
  return concat(still ? [...turned, still] : turned, -1);
}
