/**
 * Block quantization: value = scale * (code - 2^(bits - 1)), with a scale for each block of a row. Of two 4-bit codes in a byte,
 * the first is in the lower half.
 *
 * The element with the largest absolute value gets the code 0, which has no positive counterpart. With 4 bits, where steps are coarse,
 * a few other scales are tried too, and the one with the smallest square error is used.
 */

import { CheckpointError } from '../errors.js';

/** The codes and float32 scales of a matrix [rows, columns], with one scale for each block of a row. */
export interface QuantizedBlocks {
  /** [rows, blocks * block * bits / 8] */
  readonly codes: Uint8Array;
  /** [rows, blocks] */
  readonly scales: Float32Array;
}

/** The scales that are tried, as ratios of the lowest code's value to the largest element. */
const TRIED: Readonly<Record<4 | 8, readonly number[]>> = { 4: [1, 0.94, 0.88, 1.06, 0.82], 8: [1] };

/**
 * Quantizes values [rows, columns]; a row that ends within a block is padded with zeros. Throws `CheckpointError`, with the matrix's
 * name, for an infinite value or NaN, which no code can represent.
 */
export function quantizeBlocks(
  values: Float32Array,
  columns: number,
  bits: 4 | 8,
  block: number,
  name = 'a matrix',
): QuantizedBlocks {
  const rows = values.length / columns;
  const blocks = Math.ceil(columns / block);
  const codes = new Uint8Array((rows * blocks * block * bits) / 8);
  const scales = new Float32Array(rows * blocks);
  const half = 2 ** (bits - 1);
  for (let row = 0; row < rows; row++) {
    for (let b = 0; b < blocks; b++) {
      const start = row * columns + b * block;
      const end = Math.min(start + block, (row + 1) * columns);
      let largest = 0;
      for (let i = start; i < end; i++) {
        const size = Math.abs(values[i]!);
        if (!(size < Number.POSITIVE_INFINITY)) {
          throw new CheckpointError(
            `${name} has the value ${values[i]} in row ${row + 1}, column ${i - row * columns + 1}: the model is damaged, or its training diverged. Take another copy or an earlier checkpoint.`,
          );
        }
        if (size > Math.abs(largest)) largest = values[i]!;
      }
      const scale = bestScale(values, start, end, largest, half, TRIED[bits]);
      scales[row * blocks + b] = scale;
      const inverse = scale === 0 ? 0 : 1 / scale;
      for (let i = 0; i < block; i++) {
        const value = start + i < end ? values[start + i]! : 0;
        const code = Math.min(2 * half - 1, Math.max(0, Math.round(value * inverse) + half));
        const at = (row * blocks + b) * block + i;
        if (bits === 8) codes[at] = code;
        else codes[at >> 1]! |= at & 1 ? code << 4 : code;
      }
    }
  }
  return { codes, scales };
}

function bestScale(
  values: Float32Array,
  start: number,
  end: number,
  largest: number,
  half: number,
  shares: readonly number[],
): number {
  if (largest === 0) return 0;
  let best = Math.fround(-largest / half);
  if (shares.length === 1) return best;
  let least = Number.POSITIVE_INFINITY;
  for (const share of shares) {
    const scale = Math.fround((-largest * share) / half);
    const inverse = 1 / scale;
    let error = 0;
    for (let i = start; i < end; i++) {
      const code = Math.min(half - 1, Math.max(-half, Math.round(values[i]! * inverse)));
      const difference = values[i]! - scale * code;
      error += difference * difference;
    }
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

/** Dequantizes to [rows, columns]. */
export function dequantizeBlocks(
  { codes, scales }: QuantizedBlocks,
  columns: number,
  bits: 4 | 8,
  block: number,
): Float32Array {
  const half = 2 ** (bits - 1);
  const blocks = Math.ceil(columns / block);
  return Float32Array.from({ length: (scales.length / blocks) * columns }, (_, i) => {
    const at = Math.floor(i / columns) * blocks * block + (i % columns);
    const code = bits === 8 ? codes[at]! : at & 1 ? codes[at >> 1]! >> 4 : codes[at >> 1]! & 15;
    return scales[Math.floor(at / block)]! * (code - half);
  });
}
