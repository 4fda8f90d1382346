// Reductions, cumulative sums, softmax and RMS norm. One thread computes each result, in a fixed order.
import { Element, Reduction } from '../../../graph/lower/wasm/codes';
import { exp4, lanesSum, splat } from './math';
import { address, cut, offsetOf, word } from './memory';

/** words: reduction, element type, x, y, elements of y; rank, dims and x's strides of the axes that stay; the same of the axes that are reduced. */
export function reduce(a: usize, t: i32, T: i32): void {
  const what = word(a, 0);
  const kind = word(a, 1);
  const x = address(a, 2);
  const y = address(a, 3);
  const count = word(a, 4);
  const rank = word(a, 5);
  const dims = a + 24;
  const strides = dims + (<usize>rank << 2);
  const over = strides + (<usize>rank << 2);
  const overRank = load<i32>(over);
  const overDims = over + 4;
  const overStrides = overDims + (<usize>overRank << 2);
  const last = overRank > 0 ? word(overDims, overRank - 1) : 1;
  const step = overRank > 0 ? word(overStrides, overRank - 1) : 0;
  let lines = 1;
  for (let d = 0; d < overRank - 1; d++) lines *= word(overDims, d);
  const isEmpty = last == 0 || lines == 0;
  const isSum = what == Reduction.sum && kind == Element.float32;
  /** Contiguous results whose operands are contiguous, too: eight of them are summed at once. */
  const run = isSum && rank > 0 && overRank > 0 && step != 1 && word(strides, rank - 1) == 1 ? word(dims, rank - 1) : 1;
  for (let i = cut(count, t, T), end = cut(count, t + 1, T); i < end; i++) {
    const base = offsetOf(i, rank, dims, strides);
    if (min(run - (i % run), end - i) >= 8) {
      sumEight(x + (<isize>base << 2), y + (<usize>i << 2), isEmpty ? 0 : lines, over);
      i += 7;
      continue;
    }
    let total: f64 = what == Reduction.max ? -Infinity : 0;
    let whole: i64 = what == Reduction.max ? i64.MIN_VALUE : 0;
    for (let line = 0; line < lines && !isEmpty; line++) {
      let offset = base + offsetOf(line, overRank - 1, overDims, overStrides);
      if (kind == Element.float32) {
        let p = x + (<isize>offset << 2);
        if (what == Reduction.sum) {
          let j = 0;
          if (step == 1) {
            const whole = last & ~7;
            if (whole > 0) total += sumOf(p, whole);
            j = whole;
            p += <usize>whole << 2;
          }
          for (; j < last; j++, p += <isize>step << 2) total += load<f32>(p);
        } else {
          for (let j = 0; j < last; j++, p += <isize>step << 2) total = max<f64>(total, load<f32>(p));
        }
      } else if (kind == Element.int64 || kind == Element.int32) {
        for (let j = 0; j < last; j++, offset += step) {
          const value: i64 =
            kind == Element.int64 ? load<i64>(x + (<isize>offset << 3)) : load<i32>(x + (<isize>offset << 2));
          whole = what == Reduction.sum ? whole + value : max(whole, value);
        }
      } else {
        for (let j = 0; j < last; j++, offset += step) whole = max<i64>(whole, load<u8>(x + <isize>offset));
      }
    }
    if (kind == Element.float32) store<f32>(y + (<usize>i << 2), <f32>total);
    else if (kind == Element.int64) store<i64>(y + (<usize>i << 3), whole);
    else if (kind == Element.int32) store<i32>(y + (<usize>i << 2), <i32>whole);
    else store<u8>(y + <usize>i, <u8>whole);
  }
}

/** The sum of contiguous numbers, of which there are a multiple of eight. */
function sumOf(x: usize, count: i32): f64 {
  let s0 = f64x2.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (const end = x + (<usize>count << 2); x < end; x += 32) {
    const u = v128.load(x);
    const v = v128.load(x, 16);
    s0 = f64x2.add(s0, f64x2.promote_low_f32x4(u));
    s1 = f64x2.add(s1, f64x2.promote_low_f32x4(v128.shuffle<f32>(u, u, 2, 3, 2, 3)));
    s2 = f64x2.add(s2, f64x2.promote_low_f32x4(v));
    s3 = f64x2.add(s3, f64x2.promote_low_f32x4(v128.shuffle<f32>(v, v, 2, 3, 2, 3)));
  }
  const s = f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3));
  return f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1);
}

/** Eight sums over contiguous columns, each added in the same order as a single sum. `over`: rank, dims and strides of the reduced axes. */
function sumEight(x: usize, y: usize, lines: i32, over: usize): void {
  const rank = load<i32>(over);
  const dims = over + 4;
  const strides = dims + (<usize>rank << 2);
  const last = word(dims, rank - 1);
  const step = <isize>word(strides, rank - 1) << 2;
  let s0 = f64x2.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (let line = 0; line < lines; line++) {
    let p = x + (<isize>offsetOf(line, rank - 1, dims, strides) << 2);
    for (let j = 0; j < last; j++, p += step) {
      const u = v128.load(p);
      const v = v128.load(p, 16);
      s0 = f64x2.add(s0, f64x2.promote_low_f32x4(u));
      s1 = f64x2.add(s1, f64x2.promote_low_f32x4(v128.shuffle<f32>(u, u, 2, 3, 2, 3)));
      s2 = f64x2.add(s2, f64x2.promote_low_f32x4(v));
      s3 = f64x2.add(s3, f64x2.promote_low_f32x4(v128.shuffle<f32>(v, v, 2, 3, 2, 3)));
    }
  }
  v128.store64_lane(y, f32x4.demote_f64x2_zero(s0), 0);
  v128.store64_lane(y, f32x4.demote_f64x2_zero(s1), 0, 8);
  v128.store64_lane(y, f32x4.demote_f64x2_zero(s2), 0, 16);
  v128.store64_lane(y, f32x4.demote_f64x2_zero(s3), 0, 24);
}

/** words: element, x, y, outer, size, inner, reverse; x and y contiguous [outer, size, inner]. */
export function cumulative(a: usize, t: i32, T: i32): void {
  const kind = word(a, 0);
  const x = address(a, 1);
  const y = address(a, 2);
  const size = word(a, 4);
  const inner = word(a, 5);
  const isReverse = word(a, 6) != 0;
  const lines = word(a, 3) * inner;
  for (let line = cut(lines, t, T), end = cut(lines, t + 1, T); line < end; line++) {
    const start = (line / inner) * size * inner + (line % inner);
    let total: f64 = 0;
    let whole: i64 = 0;
    for (let i = 0; i < size; i++) {
      const at = <usize>(start + (isReverse ? size - 1 - i : i) * inner);
      if (kind == Element.float32) {
        total += load<f32>(x + (at << 2));
        store<f32>(y + (at << 2), <f32>total);
      } else if (kind == Element.int64) {
        whole += load<i64>(x + (at << 3));
        store<i64>(y + (at << 3), whole);
      } else {
        whole += load<i32>(x + (at << 2));
        store<i32>(y + (at << 2), <i32>whole);
      }
    }
  }
}

/** Along the last axis. words: rows, size, x, y, whether it is a log softmax. */
export function softmax(a: usize, t: i32, T: i32): void {
  const rows = word(a, 0);
  const size = word(a, 1);
  const isLog = word(a, 4) != 0;
  for (let row = cut(rows, t, T), end = cut(rows, t + 1, T); row < end; row++) {
    const x = address(a, 2) + <usize>row * (<usize>size << 2);
    const y = address(a, 3) + <usize>row * (<usize>size << 2);
    softmaxRow(x, y, size, isLog);
  }
}

function softmaxRow(x: usize, y: usize, size: i32, isLog: bool): void {
  const bytes = <usize>size << 2;
  const whole = bytes & ~15;
  let most = splat(-Infinity);
  for (let i: usize = 0; i < whole; i += 16) most = f32x4.max(most, v128.load(x + i));
  let largest = max(
    max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
    max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
  );
  for (let i = whole; i < bytes; i += 4) largest = max(largest, load<f32>(x + i));
  const shift = splat(largest);
  let sums = splat(0);
  for (let i: usize = 0; i < whole; i += 16) {
    const e = exp4(f32x4.sub(v128.load(x + i), shift));
    sums = f32x4.add(sums, e);
    if (!isLog) v128.store(y + i, e);
  }
  let sum = lanesSum(sums);
  for (let i = whole; i < bytes; i += 4) {
    const e = f32x4.extract_lane(exp4(splat(load<f32>(x + i) - largest)), 0);
    sum += e;
    if (!isLog) store<f32>(y + i, e);
  }
  if (isLog) {
    const off = largest + Mathf.log(sum);
    for (let i: usize = 0; i < whole; i += 16) v128.store(y + i, f32x4.sub(v128.load(x + i), splat(off)));
    for (let i = whole; i < bytes; i += 4) store<f32>(y + i, load<f32>(x + i) - off);
  } else {
    const by = splat(<f32>1 / sum);
    for (let i: usize = 0; i < whole; i += 16) v128.store(y + i, f32x4.mul(v128.load(y + i), by));
    for (let i = whole; i < bytes; i += 4) store<f32>(y + i, load<f32>(y + i) * (<f32>1 / sum));
  }
}

/** 1 / sqrt(mean(x^2) + epsilon) of a row. */
export function inverseRootMeanSquare(x: usize, size: i32, epsilon: f32): f32 {
  const bytes = <usize>size << 2;
  const pairs = bytes & ~31;
  let s0 = splat(0);
  let s1 = splat(0);
  let i: usize = 0;
  for (; i < pairs; i += 32) {
    const u = v128.load(x + i);
    const v = v128.load(x + i, 16);
    s0 = f32x4.add(s0, f32x4.mul(u, u));
    s1 = f32x4.add(s1, f32x4.mul(v, v));
  }
  let sum = lanesSum(f32x4.add(s0, s1));
  for (; i < bytes; i += 4) {
    const v = load<f32>(x + i);
    sum += v * v;
  }
  return <f32>1 / sqrt<f32>(sum / <f32>size + epsilon);
}

/** words: rows, size, x, bytes between its rows, weight, epsilon, y, inverses or 0. */
export function rmsNorm(a: usize, t: i32, T: i32): void {
  const rows = word(a, 0);
  const size = word(a, 1);
  const weight = address(a, 4);
  const inverses = address(a, 7);
  for (let row = cut(rows, t, T), end = cut(rows, t + 1, T); row < end; row++) {
    const x = address(a, 2) + <usize>row * address(a, 3);
    const y = address(a, 6) + <usize>row * (<usize>size << 2);
    const inverse = inverseRootMeanSquare(x, size, load<f32>(a, 20));
    if (inverses) store<f32>(inverses + (<usize>row << 2), inverse);
    normalize(x, weight, y, size, inverse);
  }
}

/** y = x * inverse * weight */
export function normalize(x: usize, weight: usize, y: usize, size: i32, inverse: f32): void {
  const bytes = <usize>size << 2;
  const whole = bytes & ~15;
  const by = splat(inverse);
  let i: usize = 0;
  for (; i < whole; i += 16)
    v128.store(y + i, f32x4.mul(f32x4.mul(v128.load(x + i), by), v128.load(weight + i)));
  for (; i < bytes; i += 4) store<f32>(y + i, load<f32>(x + i) * inverse * load<f32>(weight + i));
}
