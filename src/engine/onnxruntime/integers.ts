/**
 * Widens 4-bit matrices to 8-bit integers for prefill, where processors multiply whole tiles of integers. Decoding keeps the 4-bit codes,
 * since it is limited by the bytes that it reads.
 */
import type { QuantizedSource } from '../../graph/index.js';

/** int8 [columns, rows], and float32 scales, one for each row of the matrix. */
export interface Integers {
  readonly values: Int8Array;
  readonly scales: Float32Array;
}

/** Rows that are converted together, so that writes are contiguous. */
const TILE = 64;
const LARGEST = 127;
/** The zero point of the codes. */
const MIDDLE = 8;

/** Converts codes [rows, columns / 2] with scales [rows, columns / block]. The error is at most half a step of 1/127 of the row's maximum. */
export function integersOf(
  codes: Uint8Array,
  scales: Float32Array,
  [rows, columns]: readonly [number, number],
  block: QuantizedSource['block'],
): Integers {
  const values = new Int8Array(rows * columns);
  const rowScales = new Float32Array(rows);
  const blocks = columns / block;
  const pairs = columns / 2;
  const table = new Int8Array(TILE * 16);
  for (let first = 0; first < rows; first += TILE) {
    const count = Math.min(TILE, rows - first);
    for (let row = first; row < first + count; row++) {
      let largest = 0;
      for (let b = 0; b < blocks; b++) largest = Math.max(largest, Math.abs(scales[row * blocks + b]!));
      rowScales[row] = (MIDDLE * largest) / LARGEST || 1;
    }
    for (let b = 0; b < blocks; b++) {
      for (let i = 0; i < count; i++) {
        const step = scales[(first + i) * blocks + b]! / rowScales[first + i]!;
        for (let code = 0; code < 16; code++) table[i * 16 + code] = Math.round((code - MIDDLE) * step);
      }
      for (let column = b * block; column < (b + 1) * block; column += 2) {
        const from = first * pairs + column / 2;
        const to = column * rows + first;
        for (let i = 0; i < count; i++) {
          const both = codes[from + i * pairs]!;
          values[to + i] = table[i * 16 + (both & 15)]!;
          values[to + rows + i] = table[i * 16 + (both >> 4)]!;
        }
      }
    }
  }
  return { values, scales: rowScales };
}
