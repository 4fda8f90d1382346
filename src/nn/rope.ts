/** Rotary position embedding (Su et al., 2021), in the layout of Llama: the first half of a head rotates with the second. */
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

export interface RopeConfig {
  /** Base of the wavelengths. */
  theta: number;
}

/** Rotates x [batch, heads, sequence, size] by its tokens' positions, the first of which is `position` (int64 []). */
export function rotate(x: Tensor, position: Tensor, { theta }: RopeConfig): Tensor {
  const size = x.shape[3] as number;
  const half = size / 2;
  const sequence: Dim = x.shape[2]!;
  const frequencies = Float32Array.from({ length: half }, (_, i) => theta ** (-i / half));
  const positions = cast(add(iota(sequence), position), 'float32');
  const angles = multiply(reshape(positions, [sequence, 1]), constant(frequencies, [half]));
  const [first, second] = split(x, -1, [half, half]) as [Tensor, Tensor];
  const c = cos(angles);
  const s = sin(angles);
  return concat(
    [subtract(multiply(first, c), multiply(second, s)), add(multiply(second, c), multiply(first, s))],
    -1,
  );
}
