// Products of float32 matrices, and of rows with weights that lie row after row in float32 or bfloat16. Every element of
// a result is summed over k in one order, which depends on nothing but k and how the second operand lies.
import { Element } from '../../../graph/lower/wasm/codes';
import { lanesSum, splat, sumsOfLanes } from './math';
import { address, cut, share, word } from './memory';
import { storeLanes } from './packed';

const COLUMNS: i32 = 16;

/**
 * words: m, n, k, a, its row stride, b, its strides along k and n, y, batches, batch rank, batch dims, a's and b's batch
 * strides; all strides in elements. a is contiguous along k; b along k or along n.
 */
export function matmul(w: usize, t: i32, T: i32): void {
  const m = word(w, 0);
  const n = word(w, 1);
  const k = word(w, 2);
  const a = address(w, 3);
  const aRow = word(w, 4);
  const b = address(w, 5);
  const bK = word(w, 6);
  const bN = word(w, 7);
  const y = address(w, 8);
  const batches = word(w, 9);
  const rank = word(w, 10);
  const dims = w + 44;
  const aBatch = dims + (<usize>rank << 2);
  const bBatch = aBatch + (<usize>rank << 2);
  const chunks = (n + COLUMNS - 1) / COLUMNS;
  const units = batches * m * chunks;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const row = (unit / chunks) % m;
    const batch = unit / chunks / m;
    let aAt = row * aRow;
    let bAt = 0;
    let rest = batch;
    for (let d = rank - 1; d >= 0; d--) {
      const size = word(dims, d);
      aAt += (rest % size) * word(aBatch, d);
      bAt += (rest % size) * word(bBatch, d);
      rest = rest / size;
    }
    const first = (unit % chunks) * COLUMNS;
    const count = min(COLUMNS, n - first);
    const out = y + (<usize>((batch * m + row) * n + first) << 2);
    const x = a + (<isize>aAt << 2);
    if (bK == 1) {
      for (let j = 0; j < count; j++)
        store<f32>(out + (<usize>j << 2), dot(x, b + (<isize>(bAt + (first + j) * bN) << 2), k));
    } else {
      const z = b + (<isize>(bAt + first) << 2);
      if (count == COLUMNS) wide(x, z, <isize>bK << 2, out, k);
      else for (let j = 0; j < count; j++) store<f32>(out + (<usize>j << 2), down(x, z + (<usize>j << 2), <isize>bK << 2, k));
    }
  }
}

/** 16 columns at once: each sums over k from the first to the last. */
function wide(x: usize, b: usize, stride: isize, out: usize, k: i32): void {
  let s0 = splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (let i = 0; i < k; i++) {
    const v = v128.load32_splat(x);
    s0 = f32x4.add(s0, f32x4.mul(v, v128.load(b)));
    s1 = f32x4.add(s1, f32x4.mul(v, v128.load(b, 16)));
    s2 = f32x4.add(s2, f32x4.mul(v, v128.load(b, 32)));
    s3 = f32x4.add(s3, f32x4.mul(v, v128.load(b, 48)));
    x += 4;
    b += stride;
  }
  v128.store(out, s0);
  v128.store(out, s1, 16);
  v128.store(out, s2, 32);
  v128.store(out, s3, 48);
}

/** One column, in the same order. */
function down(x: usize, b: usize, stride: isize, k: i32): f32 {
  let s: f32 = 0;
  for (let i = 0; i < k; i++) {
    s += load<f32>(x) * load<f32>(b);
    x += 4;
    b += stride;
  }
  return s;
}

/** The product of two contiguous rows. */
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
 * A row of x times four rows of bfloat16, one in each lane. The even and the odd numbers of eight lie in the lower and upper halves of a
 * lane, and are summed apart.
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

/** A row of x times four rows of weights, so many bytes apart: one in each lane. Where `apart` is 0 it is the same row in every lane. */
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

/** Rows of weights that a thread takes at once; see graph/lower/wasm/share.ts. */
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
  const quarter = count >> 2;
  // Rows of weights stay in the first-level cache for all rows of x.
  for (let group = 0; group < quarter + (count & 3); group++) {
    const apart: usize = group < quarter ? quarter : 0;
    const j = first + group + (apart ? 0 : 3 * quarter);
    const w = address(a, 6) + <usize>j * wRow;
    for (let i = 0; i < m; i++)
      storeLanes(y + (<usize>(i * n + j) << 2), apart << 2, dotsOf(kind, x + <usize>i * xRow, w, apart * wRow, k));
  }
}
