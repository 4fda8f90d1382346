// Products with weights in blocks of 4 or 8 bits: value = scale * (code - 2^(bits - 1)). Rows of x are quantized to 8 bits
// with a scale for each block of the weights, so that blocks are multiplied in integers, exactly, and only the products
// of blocks are summed in float32, in one order.
//
// The order of x in memory follows that of the codes. Of two 4-bit codes the first is in the lower half of its byte.
// With relaxed SIMD, whose instruction multiplies 16 pairs of bytes, 32 numbers lie as 16 even and then 16 odd ones;
// without it, where 8 pairs of int16 are multiplied, as 4 times 8, of which each group has every fourth number. 8-bit
// codes are multiplied as their upper and lower halves, since one operand must have at most 7 bits for all engines to agree;
// x lies as it is, or as 8 even and 8 odd numbers. A lane then sums the same numbers in both builds.
import { lanesMax, lanesSum, splat } from './math';
import { address, cut, float, scratch, word } from './memory';
import { inverseRootMeanSquare } from './reduce';

/** Bytes that a quantized number of x takes. */
// @ts-ignore: decorator
@inline
const BYTES: usize = ASC_FEATURE_RELAXED_SIMD ? 1 : 2;

// @ts-ignore: decorator
@inline
function rounded(p: usize, by: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(p), by)));
}

/**
 * Quantizes a row of k numbers, normalized first where there is a weight: to q its numbers, padded with zeros to whole
 * blocks; to `scales` a float32 a block; to `shifts` what the codes' middle contributes, an int32 a block.
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
  own: usize,
): void {
  const inverse = weight ? inverseRootMeanSquare(x, k, epsilon) : <f32>1;
  const by = splat(inverse);
  const middle = bits == 4 ? -8 : -128;
  for (let start = 0; start < k; start += block) {
    // The block as it is to be quantized, padded with zeros.
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
      const to = q + <usize>(start + i) * BYTES;
      if (ASC_FEATURE_RELAXED_SIMD) {
        const b0 = i8x16.narrow_i16x8_s(h0, h1);
        const b1 = i8x16.narrow_i16x8_s(h2, h3);
        if (bits == 4) {
          v128.store(to, v128.shuffle<i8>(b0, b1, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
          v128.store(to, v128.shuffle<i8>(b0, b1, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), 16);
        } else {
          v128.store(to, b0);
          v128.store(to, b1, 16);
        }
      } else {
        const e0 = v128.shuffle<i16>(h0, h1, 0, 2, 4, 6, 8, 10, 12, 14);
        const o0 = v128.shuffle<i16>(h0, h1, 1, 3, 5, 7, 9, 11, 13, 15);
        const e1 = v128.shuffle<i16>(h2, h3, 0, 2, 4, 6, 8, 10, 12, 14);
        const o1 = v128.shuffle<i16>(h2, h3, 1, 3, 5, 7, 9, 11, 13, 15);
        if (bits == 4) {
          v128.store(to, v128.shuffle<i16>(e0, e1, 0, 2, 4, 6, 8, 10, 12, 14));
          v128.store(to, v128.shuffle<i16>(o0, o1, 0, 2, 4, 6, 8, 10, 12, 14), 16);
          v128.store(to, v128.shuffle<i16>(e0, e1, 1, 3, 5, 7, 9, 11, 13, 15), 32);
          v128.store(to, v128.shuffle<i16>(o0, o1, 1, 3, 5, 7, 9, 11, 13, 15), 48);
        } else {
          v128.store(to, e0);
          v128.store(to, o0, 16);
          v128.store(to, e1, 32);
          v128.store(to, o1, 48);
        }
      }
    }
    store<f32>(scales, largest / <f32>127);
    const sum =
      i32x4.extract_lane(sums, 0) +
      i32x4.extract_lane(sums, 1) +
      i32x4.extract_lane(sums, 2) +
      i32x4.extract_lane(sums, 3);
    store<i32>(shifts, middle * sum);
    scales += 4;
    shifts += 4;
  }
}

/** Bytes of a quantized row: the numbers (as many as the larger build needs), then scales and shifts. */
// @ts-ignore: decorator
@inline
function rowBytes(k: i32, block: i32): usize {
  const blocks = (k + block - 1) / block;
  return (<usize>(blocks * block) * 2 + <usize>blocks * 8 + 15) & ~15;
}

function quantizeRows(
  first: i32,
  end: i32,
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
  for (let row = first; row < end; row++) {
    const q = to + <usize>row * bytes;
    const scales = q + <usize>(blocks * block) * 2;
    quantizeRow(x + <usize>row * xRow, k, bits, block, weight, epsilon, q, scales, scales + (<usize>blocks << 2), own);
  }
}

/** words: m, k, bits, block, x, bytes between its rows, weight of a norm or 0, its epsilon, where to. */
export function quantize(a: usize, t: i32, T: i32): void {
  const m = word(a, 0);
  quantizeRows(
    cut(m, t, T),
    cut(m, t + 1, T),
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

/**
 * words: m, k, bits, block, x, bytes between its rows, weight of a norm or 0, its epsilon, quantized rows, bytes between
 * those of threads, n, codes, scales, y [m, n]. Where threads have quantized rows of their own, each makes them first:
 * for few rows that takes less time than waiting for each other.
 */
export function packedMatmul(a: usize, t: i32, T: i32): void {
  const m = word(a, 0);
  const k = word(a, 1);
  const bits = word(a, 2);
  const block = word(a, 3);
  const apart = address(a, 9);
  const q = address(a, 8) + <usize>t * apart;
  const n = word(a, 10);
  const first = cut(n, t, T);
  const end = cut(n, t + 1, T);
  if (first == end) return;
  if (apart) {
    quantizeRows(0, m, k, bits, block, address(a, 4), address(a, 5), address(a, 6), float(a, 7), q, scratch);
  }
  const blocks = (k + block - 1) / block;
  const bytes = rowBytes(k, block);
  const y = address(a, 13);
  const codeRow = (<usize>(blocks * block) * <usize>bits) >> 3;
  const codes = address(a, 11);
  const scales = address(a, 12);
  const apartScales = <usize>(blocks * block) * 2;
  for (let j = first; j < end; j++) {
    const c = codes + <usize>j * codeRow;
    const s = scales + <usize>j * (<usize>blocks << 2);
    let i = 0;
    for (; i + 4 <= m; i += 4) four(bits, block, c, s, q + <usize>i * bytes, bytes, apartScales, blocks, y + (<usize>(i * n + j) << 2), <usize>n << 2);
    for (; i < m; i++) {
      store<f32>(y + (<usize>(i * n + j) << 2), one(bits, block, c, s, q + <usize>i * bytes, apartScales, blocks));
    }
  }
}

function one(bits: i32, block: i32, c: usize, s: usize, q: usize, apart: usize, blocks: i32): f32 {
  const xs = q + apart;
  if (bits == 4) {
    if (block == 128) return row4x128(c, s, q, xs, blocks);
    if (block == 64) return row4x64(c, s, q, xs, blocks);
    return row4x32(c, s, q, xs, blocks);
  }
  return row8(c, s, q, xs, blocks, block);
}

/**
 * The products of 32 numbers with 16 bytes of 4-bit codes, and of 16 numbers with 16 8-bit codes, as sums that can be added
 * up over a block: with relaxed SIMD in int16, where the sum of 8 products of pairs fits, else in int32.
 */
// @ts-ignore: decorator
@inline
function products4(v: v128, x: usize): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    const mask = i8x16.splat(0x0f);
    return i16x8.add(
      i16x8.relaxed_dot_i8x16_i7x16_s(v128.load(x), v128.and(v, mask)),
      i16x8.relaxed_dot_i8x16_i7x16_s(v128.load(x, 16), v128.and(i16x8.shr_u(v, 4), mask)),
    );
  } else {
    const mask = i16x8.splat(0x0f);
    return i32x4.add(
      i32x4.add(
        i32x4.dot_i16x8_s(v128.load(x), v128.and(v, mask)),
        i32x4.dot_i16x8_s(v128.load(x, 16), v128.and(i16x8.shr_u(v, 4), mask)),
      ),
      i32x4.add(
        i32x4.dot_i16x8_s(v128.load(x, 32), v128.and(i16x8.shr_u(v, 8), mask)),
        i32x4.dot_i16x8_s(v128.load(x, 48), i16x8.shr_u(v, 12)),
      ),
    );
  }
}

// @ts-ignore: decorator
@inline
function upper8(v: v128, x: usize): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    return i16x8.relaxed_dot_i8x16_i7x16_s(v128.load(x), v128.and(i16x8.shr_u(v, 4), i8x16.splat(0x0f)));
  } else {
    return i32x4.dot_i16x8_s(v128.load(x, 16), i16x8.shr_u(v, 8));
  }
}

// @ts-ignore: decorator
@inline
function lower8(v: v128, x: usize): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    return i16x8.relaxed_dot_i8x16_i7x16_s(v128.load(x), v128.and(v, i8x16.splat(0x0f)));
  } else {
    return i32x4.dot_i16x8_s(v128.load(x), v128.and(v, i16x8.splat(0xff)));
  }
}

// @ts-ignore: decorator
@inline
function plus(a: v128, b: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? i16x8.add(a, b) : i32x4.add(a, b);
}

/** A block's sums in int32, with what the codes' middle contributes. */
// @ts-ignore: decorator
@inline
function whole4(sum: v128, shift: usize): v128 {
  const wide = ASC_FEATURE_RELAXED_SIMD ? i32x4.extadd_pairwise_i16x8_s(sum) : sum;
  return i32x4.add(wide, v128.load32_zero(shift));
}

// @ts-ignore: decorator
@inline
function whole8(lower: v128, upper: v128, shift: usize): v128 {
  const wide = ASC_FEATURE_RELAXED_SIMD
    ? i32x4.add(
        i32x4.extadd_pairwise_i16x8_s(lower),
        i32x4.shl(i32x4.extadd_pairwise_i16x8_s(upper), 4),
      )
    : i32x4.add(lower, upper);
  return i32x4.add(wide, v128.load32_zero(shift));
}

/** A block's product, in float32. */
// @ts-ignore: decorator
@inline
function scaled(sum: v128, s: usize, xs: usize): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(sum), splat(load<f32>(s) * load<f32>(xs)));
}

function row4x128(c: usize, s: usize, q: usize, xs: usize, blocks: i32): f32 {
  let f = splat(0);
  const shifts = <usize>blocks << 2;
  for (let b = 0; b < blocks; b++) {
    const sum = plus(
      plus(products4(v128.load(c), q), products4(v128.load(c, 16), q + 32 * BYTES)),
      plus(products4(v128.load(c, 32), q + 64 * BYTES), products4(v128.load(c, 48), q + 96 * BYTES)),
    );
    f = f32x4.add(f, scaled(whole4(sum, xs + shifts), s, xs));
    c += 64;
    q += 128 * BYTES;
    s += 4;
    xs += 4;
  }
  return lanesSum(f);
}

function row4x64(c: usize, s: usize, q: usize, xs: usize, blocks: i32): f32 {
  let f = splat(0);
  const shifts = <usize>blocks << 2;
  for (let b = 0; b < blocks; b++) {
    const sum = plus(products4(v128.load(c), q), products4(v128.load(c, 16), q + 32 * BYTES));
    f = f32x4.add(f, scaled(whole4(sum, xs + shifts), s, xs));
    c += 32;
    q += 64 * BYTES;
    s += 4;
    xs += 4;
  }
  return lanesSum(f);
}

function row4x32(c: usize, s: usize, q: usize, xs: usize, blocks: i32): f32 {
  let f = splat(0);
  const shifts = <usize>blocks << 2;
  for (let b = 0; b < blocks; b++) {
    f = f32x4.add(f, scaled(whole4(products4(v128.load(c), q), xs + shifts), s, xs));
    c += 16;
    q += 32 * BYTES;
    s += 4;
    xs += 4;
  }
  return lanesSum(f);
}

function row8(c: usize, s: usize, q: usize, xs: usize, blocks: i32, block: i32): f32 {
  let f = splat(0);
  const shifts = <usize>blocks << 2;
  for (let b = 0; b < blocks; b++) {
    let lower = i32x4.splat(0);
    let upper = lower;
    for (let i = 0; i < block; i += 32) {
      const v = v128.load(c);
      const w = v128.load(c, 16);
      lower = plus(lower, plus(lower8(v, q), lower8(w, q + 16 * BYTES)));
      upper = plus(upper, plus(upper8(v, q), upper8(w, q + 16 * BYTES)));
      c += 32;
      q += 32 * BYTES;
    }
    f = f32x4.add(f, scaled(whole8(lower, upper, xs + shifts), s, xs));
    s += 4;
    xs += 4;
  }
  return lanesSum(f);
}

/** Four rows of x with a row of weights, which is read and unpacked once. */
function four(
  bits: i32,
  block: i32,
  c: usize,
  s: usize,
  q: usize,
  bytes: usize,
  apart: usize,
  blocks: i32,
  y: usize,
  yRow: usize,
): void {
  let f0 = splat(0);
  let f1 = f0;
  let f2 = f0;
  let f3 = f0;
  const shifts = <usize>blocks << 2;
  let q1 = q + bytes;
  let q2 = q1 + bytes;
  let q3 = q2 + bytes;
  let x0 = q + apart;
  let x1 = q1 + apart;
  let x2 = q2 + apart;
  let x3 = q3 + apart;
  for (let b = 0; b < blocks; b++) {
    let a0 = i32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let b0 = a0;
    let b1 = a0;
    let b2 = a0;
    let b3 = a0;
    for (let i = 0; i < block; i += 32) {
      const v = v128.load(c);
      if (bits == 4) {
        a0 = plus(a0, products4(v, q));
        a1 = plus(a1, products4(v, q1));
        a2 = plus(a2, products4(v, q2));
        a3 = plus(a3, products4(v, q3));
        c += 16;
      } else {
        const w = v128.load(c, 16);
        a0 = plus(a0, plus(lower8(v, q), lower8(w, q + 16 * BYTES)));
        b0 = plus(b0, plus(upper8(v, q), upper8(w, q + 16 * BYTES)));
        a1 = plus(a1, plus(lower8(v, q1), lower8(w, q1 + 16 * BYTES)));
        b1 = plus(b1, plus(upper8(v, q1), upper8(w, q1 + 16 * BYTES)));
        a2 = plus(a2, plus(lower8(v, q2), lower8(w, q2 + 16 * BYTES)));
        b2 = plus(b2, plus(upper8(v, q2), upper8(w, q2 + 16 * BYTES)));
        a3 = plus(a3, plus(lower8(v, q3), lower8(w, q3 + 16 * BYTES)));
        b3 = plus(b3, plus(upper8(v, q3), upper8(w, q3 + 16 * BYTES)));
        c += 32;
      }
      q += 32 * BYTES;
      q1 += 32 * BYTES;
      q2 += 32 * BYTES;
      q3 += 32 * BYTES;
    }
    // The upper halves of 4-bit codes are among the others.
    f0 = f32x4.add(f0, scaled(bits == 4 ? whole4(a0, x0 + shifts) : whole8(a0, b0, x0 + shifts), s, x0));
    f1 = f32x4.add(f1, scaled(bits == 4 ? whole4(a1, x1 + shifts) : whole8(a1, b1, x1 + shifts), s, x1));
    f2 = f32x4.add(f2, scaled(bits == 4 ? whole4(a2, x2 + shifts) : whole8(a2, b2, x2 + shifts), s, x2));
    f3 = f32x4.add(f3, scaled(bits == 4 ? whole4(a3, x3 + shifts) : whole8(a3, b3, x3 + shifts), s, x3));
    s += 4;
    x0 += 4;
    x1 += 4;
    x2 += 4;
    x3 += 4;
  }
  store<f32>(y, lanesSum(f0));
  store<f32>(y + yRow, lanesSum(f1));
  store<f32>(y + 2 * yRow, lanesSum(f2));
  store<f32>(y + 3 * yRow, lanesSum(f3));
}

/** The numbers that a packed row stands for. */
export function unpackRow(bits: i32, block: i32, c: usize, s: usize, k: i32, y: usize): void {
  for (let i = 0; i < k; i++) {
    const scale = load<f32>(s + (<usize>(i / block) << 2));
    const code: i32 =
      bits == 8
        ? <i32>load<u8>(c + <usize>i) - 128
        : ((<i32>load<u8>(c + <usize>(i >> 1)) >> ((i & 1) << 2)) & 15) - 8;
    store<f32>(y + (<usize>i << 2), scale * <f32>code);
  }
}
