/** The rearrangement of square blocks of an image into channels, and back. */
import { type Dim, multiplyDims } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { reshape } from './broadcast.js';
import { transpose } from './layout.js';

/**
 * Each block of `side` x `side` positions becomes one position with all its channels, those of the first row first:
 * [batch, rows * side, columns * side, channels] -> [batch, rows, columns, side * side * channels], as TensorFlow's `space_to_depth`. Throws
 * `ShapeError` where the height or the width is no multiple of `side`.
 */
export function spaceToDepth(image: Tensor, side: number): Tensor {
  const [batch, height, width, channels] = image.shape as [Dim, number, number, number];
  const [rows, columns] = [Math.floor(height / side), Math.floor(width / side)];
  const cut = reshape(image, [batch, rows, side, columns, side, channels]);
  return reshape(transpose(cut, [0, 1, 3, 2, 4, 5]), [batch, rows, columns, side ** 2 * channels]);
}

/**
 * The inverse of `spaceToDepth`: [batch, rows, columns, side * side * channels] -> [batch, rows * side, columns * side, channels]. Throws
 * `ShapeError` where the channels are no multiple of `side` * `side`.
 */
export function depthToSpace(x: Tensor, side: number): Tensor {
  const [batch, rows, columns, depth] = x.shape as [Dim, Dim, Dim, number];
  const channels = Math.floor(depth / side ** 2);
  const blocks = reshape(x, [batch, rows, columns, side, side, channels]);
  return reshape(transpose(blocks, [0, 1, 3, 2, 4, 5]), [
    batch,
    multiplyDims([rows, side]),
    multiplyDims([columns, side]),
    channels,
  ]);
}
