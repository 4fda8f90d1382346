// Products of float32 matrices, and of rows with row-major weights in float32 or bfloat16. Every element of a result is summed over k in a
// fixed order: for two matrices from first to last, for rows of weights as in `dot`.
import { Element } from '../../../graph/lower/wasm/codes';
import { lanesSum, splat, sumsOfLanes } from './math';
import { address, cut, offsetOf, scratch, share, word } from './memory';
import { storeLanes } from './packed';

/** Columns of the second operand that are packed into scratch memory at a time. */
const COLUMNS: i32 = 16;
const ROWS: i32 = 64;
/** With fewer rows than this, columns are packed only if they are not contiguous already. */
const FEW_ROWS: i32 = 8;
/** Block size along k: 16 columns and four rows of this length fit into the L1 cache. */
const DEPTH: i32 = 256;
/** Bytes of a packed row of 16 columns. */
const LINE: usize = 64;
/** Stride along k, in bytes, from which four rows are packed as well: each step would touch another page or cache line. */
const FAR: isize = 1024;
/** Offsets in scratch memory: a tile of the result that is narrower than 16 columns, and four packed rows. */
const TILE: usize = 32768;
const PANEL: usize = 49152;

/**
 * words: m, n, k, a, its strides along m and k, b, its strides along k and n, y, batches, batch rank, batch dims, a's and b's
 * batch strides; all strides in elements.
 */
export function matmul(w: usize, t: i32, T: i32): void {
  const m = word(w, 0);
  const n = word(w, 1);
  const k = word(w, 2);
  const a = address(w, 3);
  const aRow = <isize>word(w, 4) << 2;
  const aK = <isize>word(w, 5) << 2;
  const b = address(w, 6);
  const bK = <isize>word(w, 7) << 2;
  const bN = <isize>word(w, 8) << 2;
  const y = address(w, 9);
  const batches = word(w, 10);
  const rank = word(w, 11);
  const dims = w + 48;
  const aBatch = dims + (<usize>rank << 2);
  const bBatch = aBatch + (<usize>rank << 2);
  const chunks = (n + COLUMNS - 1) / COLUMNS;
  const blocks = (m + ROWS - 1) / ROWS;
  const units = batches * chunks * blocks;
  const yRow = <usize>n << 2;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const top = (unit % blocks) * ROWS;
    const first = ((unit / blocks) % chunks) * COLUMNS;
    const batch = unit / blocks / chunks;
    const aAt = <isize>offsetOf(batch, rank, dims, aBatch);
    const bAt = <isize>offsetOf(batch, rank, dims, bBatch);
    const rows = min(ROWS, m - top);
    const count = min(COLUMNS, n - first);
    const x = a + (aAt << 2) + top * aRow;
    const z = b + (bAt << 2) + first * bN;
    const out = y + <usize>(batch * m + top) * yRow + (<usize>first << 2);
    const isWhole = count == COLUMNS;
    const isDirect = isWhole && bN == 4 && rows < FEW_ROWS;
    const to = isWhole ? out : scratch + TILE;
    const toRow = isWhole ? yRow : LINE;
    for (let from = 0; from < k || from == 0; from += DEPTH) {
      const depth = min(DEPTH, k - from);
      const p = x + from * aK;
      const q = z + from * bK;
      if (!isDirect) layOut(q, bK, bN, depth, count);
      product(p, aRow, aK, isDirect ? q : scratch, isDirect ? bK : <isize>LINE, to, toRow, rows, depth, from == 0);
    }
    if (!isWhole) {
      for (let i = 0; i < rows; i++)
        memory.copy(out + <usize>i * yRow, to + <usize>i * LINE, <usize>count << 2);
    }
  }
}

/** Packs `count` columns side by side into scratch memory, padded with zeros. */
function layOut(b: usize, bK: isize, bN: isize, depth: i32, count: i32): void {
  if (count < COLUMNS) memory.fill(scratch, 0, <usize>depth * LINE);
  let j = 0;
  if (bN == 4 && count == COLUMNS) {
    for (let to = scratch, end = scratch + <usize>depth * LINE; to < end; to += LINE, b += bK) {
      v128.store(to, v128.load(b));
      v128.store(to, v128.load(b, 16), 16);
      v128.store(to, v128.load(b, 32), 32);
      v128.store(to, v128.load(b, 48), 48);
    }
    return;
  }
  if (bK == 4) {
    // Four columns at a time, in 4 x 4 blocks.
    for (; j + 4 <= count; j += 4) {
      let p = b + j * bN;
      let to = scratch + (<usize>j << 2);
      let i = 0;
      for (; i + 4 <= depth; i += 4) {
        const r0 = v128.load(p);
        const r1 = v128.load(p + bN);
        const r2 = v128.load(p + 2 * bN);
        const r3 = v128.load(p + 3 * bN);
        const s0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
        const s1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
        const s2 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
        const s3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
        v128.store(to, v128.shuffle<f32>(s0, s2, 0, 1, 4, 5));
        v128.store(to + LINE, v128.shuffle<f32>(s0, s2, 2, 3, 6, 7));
        v128.store(to + 2 * LINE, v128.shuffle<f32>(s1, s3, 0, 1, 4, 5));
        v128.store(to + 3 * LINE, v128.shuffle<f32>(s1, s3, 2, 3, 6, 7));
        p += 16;
        to += 4 * LINE;
      }
      for (; i < depth; i++) {
        for (let c = 0; c < 4; c++) store<f32>(to + (<usize>c << 2), load<f32>(p + c * bN));
        p += 4;
        to += LINE;
      }
    }
  }
  for (; j < count; j++) {
    let p = b + j * bN;
    let to = scratch + (<usize>j << 2);
    for (let i = 0; i < depth; i++) {
      store<f32>(to, load<f32>(p));
      p += bK;
      to += LINE;
    }
  }
}

/** Rows of the first operand times 16 columns: four rows at a time, then one. `isFirst`: y is overwritten instead of added to. */
function product(
  x: usize,
  row: isize,
  step: isize,
  b: usize,
  stride: isize,
  y: usize,
  yRow: usize,
  rows: i32,
  k: i32,
  isFirst: bool,
): void {
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    const isFar = row == 4 && step >= FAR;
    const p = isFar ? scratch + PANEL : x;
    const along = isFar ? 16 : step;
    if (isFar) for (let i = 0; i < k; i++) v128.store(p + (<usize>i << 4), v128.load(x + i * step));
    fourRows(p, row, along, b, stride, y, yRow, k, isFirst);
    fourRows(p, row, along, b + 32, stride, y + 32, yRow, k, isFirst);
    x += 4 * row;
    y += 4 * yRow;
  }
  for (; i < rows; i++) {
    oneRow(x, step, b, stride, y, k, isFirst);
    x += row;
    y += yRow;
  }
}

/** Four rows times eight columns: as many accumulators as there are registers. */
function fourRows(
  x: usize,
  row: isize,
  step: isize,
  b: usize,
  stride: isize,
  y: usize,
  yRow: usize,
  k: i32,
  isFirst: bool,
): void {
  let s00 = splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  let s30 = s00;
  let s31 = s00;
  const y1 = y + yRow;
  const y2 = y1 + yRow;
  const y3 = y2 + yRow;
  if (!isFirst) {
    s00 = v128.load(y);
    s01 = v128.load(y, 16);
    s10 = v128.load(y1);
    s11 = v128.load(y1, 16);
    s20 = v128.load(y2);
    s21 = v128.load(y2, 16);
    s30 = v128.load(y3);
    s31 = v128.load(y3, 16);
  }
  let x1 = x + row;
  let x2 = x1 + row;
  let x3 = x2 + row;
  for (let i = 0; i < k; i++) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const v0 = v128.load32_splat(x);
    s00 = f32x4.add(s00, f32x4.mul(v0, b0));
    s01 = f32x4.add(s01, f32x4.mul(v0, b1));
    const v1 = v128.load32_splat(x1);
    s10 = f32x4.add(s10, f32x4.mul(v1, b0));
    s11 = f32x4.add(s11, f32x4.mul(v1, b1));
    const v2 = v128.load32_splat(x2);
    s20 = f32x4.add(s20, f32x4.mul(v2, b0));
    s21 = f32x4.add(s21, f32x4.mul(v2, b1));
    const v3 = v128.load32_splat(x3);
    s30 = f32x4.add(s30, f32x4.mul(v3, b0));
    s31 = f32x4.add(s31, f32x4.mul(v3, b1));
    b += stride;
    x += step;
    x1 += step;
    x2 += step;
    x3 += step;
  }
  v128.store(y, s00);
  v128.store(y, s01, 16);
  v128.store(y1, s10);
  v128.store(y1, s11, 16);
  v128.store(y2, s20);
  v128.store(y2, s21, 16);
  v128.store(y3, s30);
  v128.store(y3, s31, 16);
}

/** One row times 16 columns. */
function oneRow(x: usize, step: isize, b: usize, stride: isize, y: usize, k: i32, isFirst: bool): void {
  let s0 = splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  if (!isFirst) {
    s0 = v128.load(y);
    s1 = v128.load(y, 16);
    s2 = v128.load(y, 32);
    s3 = v128.load(y, 48);
  }
  for (let i = 0; i < k; i++) {
    const v = v128.load32_splat(x);
    s0 = f32x4.add(s0, f32x4.mul(v, v128.load(b)));
    s1 = f32x4.add(s1, f32x4.mul(v, v128.load(b, 16)));
    s2 = f32x4.add(s2, f32x4.mul(v, v128.load(b, 32)));
    s3 = f32x4.add(s3, f32x4.mul(v, v128.load(b, 48)));
    x += step;
    b += stride;
  }
  v128.store(y, s0);
  v128.store(y, s1, 16);
  v128.store(y, s2, 32);
  v128.store(y, s3, 48);
}

/** The dot product of two contiguous rows. */
export function dot(x: usize, w: usize, k: i32): f32 {
  let s0 = splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  const bytes = <usize>k << 2;
  let i: usize = 0;
  for (const whole = bytes & ~63; i < whole; i += 64) {
    s0 = f32x4.add(s0, f32x4.mul(v128.load(x + i), v128.load(w + i)));
    s1 = f32x4.add(s1, f32x4.mul(v128.load(x + i, 16), v128.load(w + i, 16)));
    s2 = f32x4.add(s2, f32x4.mul(v128.load(x + i, 32), v128.load(w + i, 32)));
    s3 = f32x4.add(s3, f32x4.mul(v128.load(x + i, 48), v128.load(w + i, 48)));
  }
  for (const whole = bytes & ~15; i < whole; i += 16)
    s0 = f32x4.add(s0, f32x4.mul(v128.load(x + i), v128.load(w + i)));
  let sum = lanesSum(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
  for (; i < bytes; i += 4) sum += load<f32>(x + i) * load<f32>(w + i);
  return sum;
}

/**
 * The dot products of a row of x and four rows of bfloat16, one in each lane. Numbers at even and odd positions are in the lower and upper
 * halves of 32-bit lanes, and are summed separately.
 */
function dotHalves(x: usize, w0: usize, w1: usize, w2: usize, w3: usize, k: i32): v128 {
  let e0 = splat(0);
  let e1 = e0;
  let e2 = e0;
  let e3 = e0;
  let o0 = e0;
  let o1 = e0;
  let o2 = e0;
  let o3 = e0;
  const upper = i32x4.splat(0xffff0000);
  const bytes = <usize>k << 1;
  let i: usize = 0;
  for (const whole = bytes & ~15; i < whole; i += 16) {
    const low = v128.load(x);
    const high = v128.load(x, 16);
    x += 32;
    const even = v128.shuffle<f32>(low, high, 0, 2, 4, 6);
    const odd = v128.shuffle<f32>(low, high, 1, 3, 5, 7);
    const u0 = v128.load(w0 + i);
    e0 = f32x4.add(e0, f32x4.mul(even, i32x4.shl(u0, 16)));
    o0 = f32x4.add(o0, f32x4.mul(odd, v128.and(u0, upper)));
    const u1 = v128.load(w1 + i);
    e1 = f32x4.add(e1, f32x4.mul(even, i32x4.shl(u1, 16)));
    o1 = f32x4.add(o1, f32x4.mul(odd, v128.and(u1, upper)));
    const u2 = v128.load(w2 + i);
    e2 = f32x4.add(e2, f32x4.mul(even, i32x4.shl(u2, 16)));
    o2 = f32x4.add(o2, f32x4.mul(odd, v128.and(u2, upper)));
    const u3 = v128.load(w3 + i);
    e3 = f32x4.add(e3, f32x4.mul(even, i32x4.shl(u3, 16)));
    o3 = f32x4.add(o3, f32x4.mul(odd, v128.and(u3, upper)));
  }
  let sums = sumsOfLanes(f32x4.add(e0, o0), f32x4.add(e1, o1), f32x4.add(e2, o2), f32x4.add(e3, o3));
  for (; i < bytes; i += 2) {
    let w = v128.load16_lane(w0 + i, i32x4.splat(0), 1);
    w = v128.load16_lane(w1 + i, w, 3);
    w = v128.load16_lane(w2 + i, w, 5);
    w = v128.load16_lane(w3 + i, w, 7);
    sums = f32x4.add(sums, f32x4.mul(v128.load32_splat(x), w));
    x += 4;
  }
  return sums;
}

/** The dot products of a row of x and four rows of weights that are `apart` bytes apart, one in each lane. With `apart` 0 all are the same row. */
// @ts-ignore: decorator
@inline
export function dotsOf(kind: i32, x: usize, w: usize, apart: usize, k: i32): v128 {
  if (kind == Element.bfloat16) return dotHalves(x, w, w + apart, w + 2 * apart, w + 3 * apart, k);
  const sums = splat(dot(x, w, k));
  if (apart == 0) return sums;
  const two = f32x4.replace_lane(sums, 1, dot(x, w + apart, k));
  const three = f32x4.replace_lane(two, 2, dot(x, w + 2 * apart, k));
  return f32x4.replace_lane(three, 3, dot(x, w + 3 * apart, k));
}

/**
 * The number of groups that a thread's `count` rows of weights are processed in: groups of four rows, each a quarter of the rows apart, then
 * the remaining rows one by one.
 */
// @ts-ignore: decorator
@inline
export function groupsOf(count: i32): i32 {
  return (count >> 2) + (count & 3);
}

/** Distance in rows between the four rows of a group; 0 for a single row. */
// @ts-ignore: decorator
@inline
export function apartIn(group: i32, count: i32): usize {
  return group < count >> 2 ? count >> 2 : 0;
}

/** The first row of a group. */
// @ts-ignore: decorator
@inline
export function firstIn(group: i32, count: i32): i32 {
  return group < count >> 2 ? group : group + 3 * (count >> 2);
}

/** Rows of weights that a thread processes together; see graph/lower/wasm/share.ts. */
const UNIT: i32 = 4;

/** words: element of the weights, m, n, k, x, bytes between its rows, weights [n, k], y [m, n]. */
export function rowsMatmul(a: usize, t: i32, T: i32): void {
  const kind = word(a, 0);
  const m = word(a, 1);
  const n = word(a, 2);
  const k = word(a, 3);
  const x = address(a, 4);
  const xRow = address(a, 5);
  const wRow = <usize>k << (kind == Element.bfloat16 ? 1 : 2);
  const y = address(a, 7);
  const first = share(n, UNIT, t, T);
  const count = share(n, UNIT, t + 1, T) - first;
  // Rows of weights stay in the L1 cache for all rows of x.
  for (let group = 0; group < groupsOf(count); group++) {
    const apart = apartIn(group, count);
    const j = first + firstIn(group, count);
    const w = address(a, 6) + <usize>j * wRow;
    for (let i = 0; i < m; i++)
      storeLanes(y + (<usize>(i * n + j) << 2), apart << 2, dotsOf(kind, x + <usize>i * xRow, w, apart * wRow, k));
  }
}
