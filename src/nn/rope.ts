/**
 * Rotary position embedding (Su et al., 2021), in the layout of Llama: the first half of what rotates in a head does so
 * with the second; a rest of the head may stay as it is.
 */
import {
  add,
  cast,
  concat,
  constant,
  cos,
  type Dim,
  iota,
  multiply,
  reshape,
  sin,
  split,
  subtract,
  type Tensor,
} from '../graph/index.js';

/** Rotary position embedding (Su et al., 2021, arXiv 2104.09864): at which rates the pairs of a head rotate. */
export interface RopeConfig {
  /** Radians a token, one for each pair of elements that rotates. */
  frequencies: Float32Array;
  /** Multiplies the rotated part; 1 by default. */
  factor?: number;
}

/** theta^(-i / pairs) for each pair of a head's `size` rotating elements. */
export function ropeFrequencies(theta: number, size: number): Float32Array {
  const pairs = size / 2;
  return Float32Array.from({ length: pairs }, (_, i) => theta ** (-i / pairs));
}

/** Rotates x [batch, heads, sequence, size] by its tokens' positions, the first of which is `position` (int64 [] or [batch]). */
export function rotate(x: Tensor, position: Tensor, { frequencies, factor = 1 }: RopeConfig): Tensor {
  const size = x.shape[3] as number;
  const half = frequencies.length;
  const sequence: Dim = x.shape[2]!;
  const positions = cast(add(iota(sequence), reshape(position, [-1, 1])), 'float32');
  const angles = multiply(reshape(positions, [-1, 1, sequence, 1]), constant(frequencies, [half]));
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
