// Quantizes rows of x to 8 bits for products with quantized weights, with a scale for each block of the weights, so that the products of
// a block are summed exactly, in integers.
//
// The order of a row's numbers follows that of the codes. For 8-bit codes x is int16, in order. Of two 4-bit codes in a byte, the first is in
// the lower half. With relaxed SIMD, whose instruction multiplies 16 pairs of bytes, each 32 numbers of x are stored as 16 even and then 16
// odd ones; without it, where 8 pairs of int16 are multiplied, as four groups of 8, each with every fourth number.
import { lanesMax, splat } from './math';
import { address, cut, float, scratch, word } from './memory';
import { inverseRootMeanSquare } from './reduce';

// @ts-ignore: decorator
@inline
function rounded(p: usize, by: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(p), by)));
}

/**
 * Quantizes a row of k numbers, after RMS norm if there is a weight. Writes the numbers to q, padded with zeros to whole blocks; a float32
 * scale for each block to `scales`; and the contribution of the codes' zero point, an int32 for each block, to `shifts`; both with a stride
 * of `apart` bytes.
 */
function quantizeRow(
  x: usize,
  k: i32,
  bits: i32,
  block: i32,
  weight: usize,
  epsilon: f32,
  q: usize,
  scales: usize,
  shifts: usize,
  apart: usize,
  own: usize,
): void {
  const inverse = weight ? inverseRootMeanSquare(x, k, epsilon) : <f32>1;
  const by = splat(inverse);
  const middle = bits == 4 ? -8 : -128;
  for (let start = 0; start < k; start += block) {
    // The block before quantization, padded with zeros.
    const count = min(block, k - start);
    let p = x + (<usize>start << 2);
    if (weight || count < block) {
      const bytes = <usize>count << 2;
      const whole = bytes & ~15;
      const w = weight + (<usize>start << 2);
      let i: usize = 0;
      if (weight) {
        for (; i < whole; i += 16)
          v128.store(own + i, f32x4.mul(f32x4.mul(v128.load(p + i), by), v128.load(w + i)));
        for (; i < bytes; i += 4) store<f32>(own + i, load<f32>(p + i) * inverse * load<f32>(w + i));
      } else {
        for (; i < bytes; i += 4) store<f32>(own + i, load<f32>(p + i));
      }
      for (; i < <usize>block << 2; i += 4) store<f32>(own + i, 0);
      p = own;
    }
    let most = splat(0);
    for (let i: usize = 0; i < <usize>block << 2; i += 16) most = f32x4.max(most, f32x4.abs(v128.load(p + i)));
    const largest = lanesMax(most);
    const factor = splat(largest > 0 ? <f32>127 / largest : 0);
    let sums = i32x4.splat(0);
    for (let i = 0; i < block; i += 32) {
      const v = p + (<usize>i << 2);
      const i0 = rounded(v, factor);
      const i1 = rounded(v + 16, factor);
      const i2 = rounded(v + 32, factor);
      const i3 = rounded(v + 48, factor);
      const i4 = rounded(v + 64, factor);
      const i5 = rounded(v + 80, factor);
      const i6 = rounded(v + 96, factor);
      const i7 = rounded(v + 112, factor);
      sums = i32x4.add(
        sums,
        i32x4.add(
          i32x4.add(i32x4.add(i0, i1), i32x4.add(i2, i3)),
          i32x4.add(i32x4.add(i4, i5), i32x4.add(i6, i7)),
        ),
      );
      const h0 = i16x8.narrow_i32x4_s(i0, i1);
      const h1 = i16x8.narrow_i32x4_s(i2, i3);
      const h2 = i16x8.narrow_i32x4_s(i4, i5);
      const h3 = i16x8.narrow_i32x4_s(i6, i7);
      if (bits == 8) {
        const to = q + (<usize>(start + i) << 1);
        v128.store(to, h0);
        v128.store(to, h1, 16);
        v128.store(to, h2, 32);
        v128.store(to, h3, 48);
      } else if (ASC_FEATURE_RELAXED_SIMD) {
        const to = q + <usize>(start + i);
        const b0 = i8x16.narrow_i16x8_s(h0, h1);
        const b1 = i8x16.narrow_i16x8_s(h2, h3);
        v128.store(to, v128.shuffle<i8>(b0, b1, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
        v128.store(to, v128.shuffle<i8>(b0, b1, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), 16);
      } else {
        const to = q + (<usize>(start + i) << 1);
        const e0 = v128.shuffle<i16>(h0, h1, 0, 2, 4, 6, 8, 10, 12, 14);
        const o0 = v128.shuffle<i16>(h0, h1, 1, 3, 5, 7, 9, 11, 13, 15);
        const e1 = v128.shuffle<i16>(h2, h3, 0, 2, 4, 6, 8, 10, 12, 14);
        const o1 = v128.shuffle<i16>(h2, h3, 1, 3, 5, 7, 9, 11, 13, 15);
        v128.store(to, v128.shuffle<i16>(e0, e1, 0, 2, 4, 6, 8, 10, 12, 14));
        v128.store(to, v128.shuffle<i16>(o0, o1, 0, 2, 4, 6, 8, 10, 12, 14), 16);
        v128.store(to, v128.shuffle<i16>(e0, e1, 1, 3, 5, 7, 9, 11, 13, 15), 32);
        v128.store(to, v128.shuffle<i16>(o0, o1, 1, 3, 5, 7, 9, 11, 13, 15), 48);
      }
    }
    store<f32>(scales, largest / <f32>127);
    const sum =
      i32x4.extract_lane(sums, 0) +
      i32x4.extract_lane(sums, 1) +
      i32x4.extract_lane(sums, 2) +
      i32x4.extract_lane(sums, 3);
    store<i32>(shifts, middle * sum);
    scales += apart;
    shifts += apart;
  }
}

/** Bytes of a quantized row's numbers: enough for either build. */
// @ts-ignore: decorator
@inline
export function numberBytes(k: i32, block: i32): usize {
  return <usize>(((k + block - 1) / block) * block) * 2;
}

/** Bytes of a quantized row: its numbers, scales and shifts. */
// @ts-ignore: decorator
@inline
export function rowBytes(k: i32, block: i32): usize {
  const blocks = (k + block - 1) / block;
  return (numberBytes(k, block) + <usize>blocks * 8 + 15) & ~15;
}

/**
 * Quantizes a range of rows. The numbers of a row are followed by its scales and shifts. Rows before `fours` are multiplied in groups of
 * four, which have another layout: first the numbers, row by row, then the scales, for each block those of all four rows, then the shifts
 * in the same way.
 */
export function quantizeRows(
  first: i32,
  end: i32,
  fours: i32,
  k: i32,
  bits: i32,
  block: i32,
  x: usize,
  xRow: usize,
  weight: usize,
  epsilon: f32,
  to: usize,
  own: usize,
): void {
  const blocks = (k + block - 1) / block;
  const bytes = rowBytes(k, block);
  const numbers = numberBytes(k, block);
  for (let row = first; row < end; row++) {
    const four = row & ~3;
    const isOne = four + 4 > fours;
    const place = <usize>(row - four);
    const start = to + <usize>(isOne ? row : four) * bytes;
    const q = isOne ? start : start + place * numbers;
    const scales = isOne ? start + numbers : start + 4 * numbers + 4 * place;
    const apart: usize = isOne ? 4 : 16;
    const shifts = scales + <usize>blocks * apart;
    quantizeRow(x + <usize>row * xRow, k, bits, block, weight, epsilon, q, scales, shifts, apart, own);
  }
}

/** words: m, k, bits, block, x, bytes between its rows, weight of a norm or 0, its epsilon, the result, rows that are multiplied in groups of four. */
export function quantize(a: usize, t: i32, T: i32): void {
  const m = word(a, 0);
  quantizeRows(
    cut(m, t, T),
    cut(m, t + 1, T),
    word(a, 9),
    word(a, 1),
    word(a, 2),
    word(a, 3),
    address(a, 4),
    address(a, 5),
    address(a, 6),
    float(a, 7),
    address(a, 8),
    scratch,
  );
}
