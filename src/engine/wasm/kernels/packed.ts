// Products with block-quantized weights of 4 or 8 bits: value = scale * (code - 2^(bits - 1)). Rows of x are quantized too, so that the
// products of a block are summed exactly, in integers; blocks are then summed in float32 in order, each times the scale of the weights
// and that of x. The bits of a result thus depend only on its row of weights and its row of x.
//
// Four products are computed at once, one in each lane: of one row of x with four rows of weights, or of four rows of x with one. The four
// rows of weights are a quarter of the matrix apart: reading four sequential streams at once hides more memory latency than reading one.
//
// The innermost loops are short, since V8 hoists all loads to the beginning of a loop's body and would run out of registers.
import { address, float, scratch, share, thread, word } from './memory';
import { HAS_DOT } from './build';
import { numberBytes, quantizeRows, rowBytes } from './quantize';

/** Rows of weights of each quarter that a thread processes together; see graph/lower/wasm/share.ts. */
const UNIT: i32 = 4;

/** 16 bytes of 15, in memory: V8 would rebuild a constant in every iteration. */
const HALVES: usize = memory.data<u8>([15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15], 16);

/** The step for which this thread has quantized its own copy of the rows. */
let quantizedFor: usize = 0;

/** Makes the next run quantize its rows again. */
export function forgetRows(): void {
  quantizedFor = 0;
}

/**
 * words: m, k, bits, block, x, bytes between its rows, weight of a norm or 0, its epsilon, quantized rows, bytes between those of threads,
 * n, codes, scales, y [m, n]. If each thread has its own copy of the quantized rows, it computes them first: for few rows that is faster
 * than a barrier.
 */
export function packedMatmul(a: usize, t: i32, T: i32): void {
  const m = word(a, 0);
  const k = word(a, 1);
  const bits = word(a, 2);
  const block = word(a, 3);
  const apart = address(a, 9);
  const q = address(a, 8) + <usize>thread * apart;
  const n = word(a, 10);
  const quarter = n >> 2;
  const first = share(quarter, UNIT, t, T);
  const end = share(quarter, UNIT, t + 1, T);
  // The rows left over from groups of four belong to the last part.
  const rest = t == T - 1 ? n & 3 : 0;
  if (first == end && rest == 0) return;
  if (apart && quantizedFor != a) {
    quantizedFor = a;
    quantizeRows(0, m, m, k, bits, block, address(a, 4), address(a, 5), address(a, 6), float(a, 7), q, scratch);
  }
  const blocks = (k + block - 1) / block;
  const xRow = rowBytes(k, block);
  const xScales = numberBytes(k, block);
  const codeRow = (<usize>(blocks * block) * <usize>bits) >> 3;
  const scaleRow = <usize>blocks << 2;
  const codes = address(a, 11);
  const scales = address(a, 12);
  const y = address(a, 13);
  const codesApart = <usize>quarter * codeRow;
  const scalesApart = <usize>quarter * scaleRow;
  const fours = m & ~3;
  for (let j = first; j < end; j += UNIT) {
    const count = min(UNIT, end - j);
    for (let row = j; fours && row < n - (n & 3); row += quarter)
      tokensInFours(bits, codes, codeRow, scales, scaleRow, row, count, q, xRow, xScales, block, blocks, fours, y, n);
    for (let row = j; row < j + count; row++) {
      for (let i = fours; i < m; i++) {
        const x = q + <usize>i * xRow;
        const sums = rows(bits, codes + <usize>row * codeRow, codesApart, scales + <usize>row * scaleRow, scalesApart, x, x + xScales, block, blocks);
        storeLanes(y + (<usize>(i * n + row) << 2), <usize>quarter << 2, sums);
      }
    }
  }
  if (rest && fours) tokensInFours(bits, codes, codeRow, scales, scaleRow, n - rest, rest, q, xRow, xScales, block, blocks, fours, y, n);
  for (let row = n - rest; row < n; row++) {
    for (let i = fours; i < m; i++) {
      const x = q + <usize>i * xRow;
      const sums = rows(bits, codes + <usize>row * codeRow, 0, scales + <usize>row * scaleRow, 0, x, x + xScales, block, blocks);
      store<f32>(y + (<usize>(i * n + row) << 2), f32x4.extract_lane(sums, 0));
    }
  }
}

/**
 * `count` consecutive rows of weights times groups of four rows of x. Four rows of weights make whole vectors of y: its rows may be a
 * multiple of a page apart, where they map to the same sets of the L1 cache, so that each should be written only once.
 */
function tokensInFours(
  bits: i32,
  codes: usize,
  codeRow: usize,
  scales: usize,
  scaleRow: usize,
  row: i32,
  count: i32,
  q: usize,
  xRow: usize,
  xScales: usize,
  block: i32,
  blocks: i32,
  fours: i32,
  y: usize,
  n: i32,
): void {
  const c = codes + <usize>row * codeRow;
  const s = scales + <usize>row * scaleRow;
  const apart = <usize>n << 2;
  for (let i = 0; i < fours; i += 4) {
    const x = q + <usize>i * xRow;
    const to = y + (<usize>(i * n + row) << 2);
    if (count < 4) {
      for (let r = 0; r < count; r++)
        storeLanes(to + (<usize>r << 2), apart, tokens(bits, c + <usize>r * codeRow, s + <usize>r * scaleRow, x, xScales, block, blocks));
      continue;
    }
    const r0 = tokens(bits, c, s, x, xScales, block, blocks);
    const r1 = tokens(bits, c + codeRow, s + scaleRow, x, xScales, block, blocks);
    const r2 = tokens(bits, c + 2 * codeRow, s + 2 * scaleRow, x, xScales, block, blocks);
    const r3 = tokens(bits, c + 3 * codeRow, s + 3 * scaleRow, x, xScales, block, blocks);
    const low01 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
    const low23 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const high01 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const high23 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(to, v128.shuffle<i64>(low01, low23, 0, 2));
    v128.store(to + apart, v128.shuffle<i64>(low01, low23, 1, 3));
    v128.store(to + 2 * apart, v128.shuffle<i64>(high01, high23, 0, 2));
    v128.store(to + 3 * apart, v128.shuffle<i64>(high01, high23, 1, 3));
  }
}

// @ts-ignore: decorator
@inline
function tokens(bits: i32, c: usize, s: usize, x: usize, xScales: usize, block: i32, blocks: i32): v128 {
  return bits == 4 ? tokens4(c, s, x, xScales, block, blocks) : tokens8(c, s, x, xScales, block, blocks);
}

/** Stores four lanes with a stride of `apart` bytes. */
// @ts-ignore: decorator
@inline
export function storeLanes(to: usize, apart: usize, lanes: v128): void {
  store<f32>(to, f32x4.extract_lane(lanes, 0));
  store<f32>(to + apart, f32x4.extract_lane(lanes, 1));
  store<f32>(to + 2 * apart, f32x4.extract_lane(lanes, 2));
  store<f32>(to + 3 * apart, f32x4.extract_lane(lanes, 3));
}

/** Four rows of codes times one row of x. With `cApart` and `sApart` 0 all four are the same row. */
// @ts-ignore: decorator
@inline
export function rows(bits: i32, c: usize, cApart: usize, s: usize, sApart: usize, q: usize, xs: usize, block: i32, blocks: i32): v128 {
  return bits == 4 ? rows4(c, cApart, s, sApart, q, xs, block, blocks) : rows8(c, cApart, s, sApart, q, xs, block, blocks);
}

/** Loads four float32 or int32 numbers with a stride. */
// @ts-ignore: decorator
@inline
export function gathered(p: usize, apart: usize): v128 {
  return v128.load32_lane(
    p + 3 * apart,
    v128.load32_lane(p + 2 * apart, v128.load32_lane(p + apart, v128.load32_zero(p), 1), 2),
    3,
  );
}

/** The sum of the int32 lanes of four vectors, one sum in each lane. */
// @ts-ignore: decorator
@inline
function lanesOf(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7));
  const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7));
  return i32x4.add(v128.shuffle<i64>(ab, cd, 0, 2), v128.shuffle<i64>(ab, cd, 1, 3));
}

/** With relaxed SIMD a block's 4-bit products are summed in int16, where those of 128 numbers fit; else in int32. */
// @ts-ignore: decorator
@inline
function wide(sum: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD && !HAS_DOT ? i32x4.extadd_pairwise_i16x8_s(sum) : sum;
}

/** One of the codes of each byte, or of each 16 bits, selected by its position (0 to 3; with relaxed SIMD 0 or 1). */
// @ts-ignore: decorator
@inline
function codesAt(place: i32, v: v128, halves: v128): v128 {
  if (place == 0) return v128.and(v, halves);
  if (place == 1) return v128.and(i16x8.shr_u(v, 4), halves);
  if (ASC_FEATURE_RELAXED_SIMD) return v;
  return place == 2 ? v128.and(i16x8.shr_u(v, 8), halves) : i16x8.shr_u(v, 12);
}

/** sum + the dot product of 32 numbers, in two or four vectors, with their codes. */
// @ts-ignore: decorator
@inline
function plus4(sum: v128, c0: v128, c1: v128, c2: v128, c3: v128, x0: v128, x1: v128, x2: v128, x3: v128): v128 {
  if (HAS_DOT) return i32x4.relaxed_dot_i8x16_i7x16_add_s(x1, c1, i32x4.relaxed_dot_i8x16_i7x16_add_s(x0, c0, sum));
  if (ASC_FEATURE_RELAXED_SIMD) {
    const low = i16x8.relaxed_dot_i8x16_i7x16_s(x0, c0);
    return i16x8.add(sum, i16x8.add(low, i16x8.relaxed_dot_i8x16_i7x16_s(x1, c1)));
  }
  const lower = i32x4.add(i32x4.dot_i16x8_s(x0, c0), i32x4.dot_i16x8_s(x1, c1));
  return i32x4.add(sum, i32x4.add(lower, i32x4.add(i32x4.dot_i16x8_s(x2, c2), i32x4.dot_i16x8_s(x3, c3))));
}

/** The same with 16 bytes of codes at `c`. */
// @ts-ignore: decorator
@inline
function plusRow4(sum: v128, c: usize, halves: v128, x0: v128, x1: v128, x2: v128, x3: v128): v128 {
  const v = v128.load(c);
  return plus4(sum, codesAt(0, v, halves), codesAt(1, v, halves), codesAt(2, v, halves), codesAt(3, v, halves), x0, x1, x2, x3);
}

/** The same with numbers at `x`. */
// @ts-ignore: decorator
@inline
function plusToken4(sum: v128, c0: v128, c1: v128, c2: v128, c3: v128, x: usize): v128 {
  const x0 = v128.load(x);
  return plus4(sum, c0, c1, c2, c3, x0, v128.load(x, 16), third(x, x0), fourth(x, x0));
}

/** The mask of the lower half of each byte, or of the lowest quarter of 16 bits. */
// @ts-ignore: decorator
@inline
function halvesMask(): v128 {
  const all = v128.load(HALVES);
  return ASC_FEATURE_RELAXED_SIMD ? all : i16x8.shr_u(all, 8);
}

// @ts-ignore: decorator
@inline
function third(x: usize, first: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? first : v128.load(x, 32);
}

// @ts-ignore: decorator
@inline
function fourth(x: usize, first: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? first : v128.load(x, 48);
}

/** log2 of the bytes of quantized x for each byte of 4-bit codes. */
// @ts-ignore: decorator
@inline
const BYTES4: usize = ASC_FEATURE_RELAXED_SIMD ? 1 : 2;

/** Four rows of 4-bit codes times one row of x. */
function rows4(c0: usize, cApart: usize, s: usize, sApart: usize, q: usize, xs: usize, block: i32, blocks: i32): v128 {
  const halves = halvesMask();
  const c1 = c0 + cApart;
  const c2 = c1 + cApart;
  const c3 = c2 + cApart;
  const shifts = <usize>blocks << 2;
  let total = f32x4.splat(0);
  let i: usize = 0;
  for (let b: usize = 0; b < shifts; b += 4) {
    let a0 = i32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    for (const end = i + (<usize>block >> 1); i < end; i += 16) {
      const x = q + (i << BYTES4);
      const x0 = v128.load(x);
      const x1 = v128.load(x, 16);
      const x2 = third(x, x0);
      const x3 = fourth(x, x0);
      a0 = plusRow4(a0, c0 + i, halves, x0, x1, x2, x3);
      a1 = plusRow4(a1, c1 + i, halves, x0, x1, x2, x3);
      a2 = plusRow4(a2, c2 + i, halves, x0, x1, x2, x3);
      a3 = plusRow4(a3, c3 + i, halves, x0, x1, x2, x3);
    }
    const sums = i32x4.add(lanesOf(wide(a0), wide(a1), wide(a2), wide(a3)), v128.load32_splat(xs + shifts + b));
    const by = f32x4.mul(gathered(s + b, sApart), v128.load32_splat(xs + b));
    total = f32x4.add(total, f32x4.mul(f32x4.convert_i32x4_s(sums), by));
  }
  return total;
}

/** One row of 4-bit codes times four rows of x, in the layout of `quantizeRows`. */
function tokens4(c: usize, s: usize, q0: usize, numbers: usize, block: i32, blocks: i32): v128 {
  const halves = halvesMask();
  const q1 = q0 + numbers;
  const q2 = q1 + numbers;
  const q3 = q2 + numbers;
  let scales = q3 + numbers;
  const shifts = <usize>blocks << 4;
  let total = f32x4.splat(0);
  let i: usize = 0;
  for (const last = s + (<usize>blocks << 2); s < last; s += 4) {
    let a0 = i32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    for (const end = i + (<usize>block >> 1); i < end; i += 16) {
      const v = v128.load(c + i);
      const c0 = codesAt(0, v, halves);
      const c1 = codesAt(1, v, halves);
      const c2 = codesAt(2, v, halves);
      const c3 = codesAt(3, v, halves);
      const at = i << BYTES4;
      a0 = plusToken4(a0, c0, c1, c2, c3, q0 + at);
      a1 = plusToken4(a1, c0, c1, c2, c3, q1 + at);
      a2 = plusToken4(a2, c0, c1, c2, c3, q2 + at);
      a3 = plusToken4(a3, c0, c1, c2, c3, q3 + at);
    }
    const sums = i32x4.add(lanesOf(wide(a0), wide(a1), wide(a2), wide(a3)), v128.load(scales + shifts));
    const by = f32x4.mul(v128.load32_splat(s), v128.load(scales));
    total = f32x4.add(total, f32x4.mul(f32x4.convert_i32x4_s(sums), by));
    scales += 16;
  }
  return total;
}

/** sum + the product of 16 numbers with 16 8-bit codes. */
// @ts-ignore: decorator
@inline
function plus8(sum: v128, c: usize, x0: v128, x1: v128): v128 {
  const low = i32x4.dot_i16x8_s(v128.load8x8_u(c), x0);
  const high = i32x4.dot_i16x8_s(v128.load8x8_u(c, 8), x1);
  return i32x4.add(sum, i32x4.add(low, high));
}

/** Four rows of 8-bit codes times one row of x. */
function rows8(c0: usize, cApart: usize, s: usize, sApart: usize, q: usize, xs: usize, block: i32, blocks: i32): v128 {
  const c1 = c0 + cApart;
  const c2 = c1 + cApart;
  const c3 = c2 + cApart;
  const shifts = <usize>blocks << 2;
  let total = f32x4.splat(0);
  let i: usize = 0;
  for (let b: usize = 0; b < shifts; b += 4) {
    let a0 = i32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    for (const end = i + <usize>block; i < end; i += 16) {
      const x0 = v128.load(q + (i << 1));
      const x1 = v128.load(q + (i << 1), 16);
      a0 = plus8(a0, c0 + i, x0, x1);
      a1 = plus8(a1, c1 + i, x0, x1);
      a2 = plus8(a2, c2 + i, x0, x1);
      a3 = plus8(a3, c3 + i, x0, x1);
    }
    const sums = i32x4.add(lanesOf(a0, a1, a2, a3), v128.load32_splat(xs + shifts + b));
    const by = f32x4.mul(gathered(s + b, sApart), v128.load32_splat(xs + b));
    total = f32x4.add(total, f32x4.mul(f32x4.convert_i32x4_s(sums), by));
  }
  return total;
}

/** One row of 8-bit codes times four rows of x, in the layout of `quantizeRows`. */
function tokens8(c: usize, s: usize, q0: usize, numbers: usize, block: i32, blocks: i32): v128 {
  const q1 = q0 + numbers;
  const q2 = q1 + numbers;
  const q3 = q2 + numbers;
  let scales = q3 + numbers;
  const shifts = <usize>blocks << 4;
  let total = f32x4.splat(0);
  let i: usize = 0;
  for (const last = s + (<usize>blocks << 2); s < last; s += 4) {
    let a0 = i32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    for (const end = i + <usize>block; i < end; i += 16) {
      const low = v128.load8x8_u(c + i);
      const high = v128.load8x8_u(c + i, 8);
      const at = i << 1;
      a0 = tokenPlus8(a0, low, high, q0 + at);
      a1 = tokenPlus8(a1, low, high, q1 + at);
      a2 = tokenPlus8(a2, low, high, q2 + at);
      a3 = tokenPlus8(a3, low, high, q3 + at);
    }
    const sums = i32x4.add(lanesOf(a0, a1, a2, a3), v128.load(scales + shifts));
    const by = f32x4.mul(v128.load32_splat(s), v128.load(scales));
    total = f32x4.add(total, f32x4.mul(f32x4.convert_i32x4_s(sums), by));
    scales += 16;
  }
  return total;
}

// @ts-ignore: decorator
@inline
function tokenPlus8(sum: v128, low: v128, high: v128, x: usize): v128 {
  return i32x4.add(sum, i32x4.add(i32x4.dot_i16x8_s(low, v128.load(x)), i32x4.dot_i16x8_s(high, v128.load(x, 16))));
}

/** Dequantizes a packed row. */
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
