// Attention of new tokens over a memory that lies in pages, and over themselves. Entries are taken in blocks that begin at
// multiples of 64 positions, wherever they lie: the order of sums is the same however a text was cut.
import { exp4, lanesMax, lanesSum, splat } from './math';
import { address, cut, float, scratch, word } from './memory';
import { PAGE } from './states';

/** Places in scratch memory: the weights of a block, then what has been summed for each head of a group. */
const WEIGHTS: usize = 0;
const SUMS: usize = 512;

/** The product of a query and a key: lanes are summed over the size, then with each other. */
export function dotRows(q: usize, k: usize, d: i32): f32 {
  let lanes = splat(0);
  const bytes = <usize>d << 2;
  let i: usize = 0;
  for (const vectors = bytes & ~15; i < vectors; i += 16)
    lanes = f32x4.add(lanes, f32x4.mul(v128.load(q + i), v128.load(k + i)));
  let sum = lanesSum(lanes);
  for (; i < bytes; i += 4) sum += load<f32>(q + i) * load<f32>(k + i);
  return sum;
}

/** The products of a query and four keys, in the same order each. */
// @ts-ignore: decorator
@inline
function dotKeys(q: usize, k0: usize, step: usize, bytes: usize): v128 {
  const k1 = k0 + step;
  const k2 = k1 + step;
  const k3 = k2 + step;
  let a = splat(0);
  let b = a;
  let c = a;
  let e = a;
  for (let i: usize = 0; i < bytes; i += 16) {
    const x = v128.load(q + i);
    a = f32x4.add(a, f32x4.mul(x, v128.load(k0 + i)));
    b = f32x4.add(b, f32x4.mul(x, v128.load(k1 + i)));
    c = f32x4.add(c, f32x4.mul(x, v128.load(k2 + i)));
    e = f32x4.add(e, f32x4.mul(x, v128.load(k3 + i)));
  }
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const ce = f32x4.add(v128.shuffle<f32>(c, e, 0, 4, 1, 5), v128.shuffle<f32>(c, e, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<i64>(ab, ce, 0, 2), v128.shuffle<i64>(ab, ce, 1, 3));
}

/**
 * The logits of `count` keys. Values that come next, `ahead` bytes a key from `values` on, are touched meanwhile: the processor then
 * fetches both at once. Of a whole page the four keys stand a quarter apart, since it waits less for memory that it reads in several
 * places.
 */
function logits(q: usize, k: usize, step: usize, count: i32, d: i32, scale: f32, to: usize, values: usize, ahead: usize): void {
  let i = 0;
  const bytes = <usize>d << 2;
  if ((d & 3) == 0) {
    const quarter = count == PAGE ? PAGE >> 2 : 1;
    const apart = <usize>quarter * step;
    const valuesApart = <usize>quarter * ahead;
    for (; i + 4 <= count; i += 4) {
      if (ahead) {
        for (let v = values, end = values + ahead; v < end; v += 64) {
          load<u8>(v);
          load<u8>(v + valuesApart);
          load<u8>(v + 2 * valuesApart);
          load<u8>(v + 3 * valuesApart);
        }
        values += quarter == 1 ? 4 * ahead : ahead;
      }
      const found = f32x4.mul(dotKeys(q, k, apart, bytes), splat(scale));
      if (quarter == 1) {
        v128.store(to + (<usize>i << 2), found);
        k += 4 * step;
      } else {
        store<f32>(to + <usize>i, f32x4.extract_lane(found, 0));
        store<f32>(to + <usize>i, f32x4.extract_lane(found, 1), PAGE);
        store<f32>(to + <usize>i, f32x4.extract_lane(found, 2), 2 * PAGE);
        store<f32>(to + <usize>i, f32x4.extract_lane(found, 3), 3 * PAGE);
        k += step;
      }
    }
  }
  for (; i < count; i++) {
    store<f32>(to + (<usize>i << 2), dotRows(q, k, d) * scale);
    k += step;
  }
}

/**
 * words: batch, heads, key-value heads, sequence, head size, scale, then query, keys and values of the new tokens, each its
 * address and bytes between rows, heads and tokens; tables of the rows' pages of keys and of values, or 0; lengths (int64),
 * bytes between them; y, and bytes between its rows, heads and tokens; how many entries a token sees at most, or 0; the
 * size of a value, and how many numbers lie between values in a page. Where there are fewer tokens and groups than threads, these
 * share the heads of a group.
 */
export function attention(a: usize, t: i32, T: i32): void {
  const heads = word(a, 1);
  const groups = word(a, 2);
  const sequence = word(a, 3);
  const d = word(a, 4);
  const scale = float(a, 5);
  const members = heads / groups;
  const bytes = <usize>d << 2;
  const valueBytes = <usize>word(a, 27) << 2;
  const valueStep = <usize>word(a, 28) << 2;
  const whole = word(a, 0) * groups * sequence;
  const parts = whole >= T ? 1 : min(members, (T + whole - 1) / max(1, whole));
  const units = whole * parts;
  const keyPages = address(a, 18);
  const valuePages = address(a, 19);
  const weights = scratch + WEIGHTS;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const part = unit % parts;
    const token = (unit / parts) % sequence;
    const group = (unit / parts / sequence) % groups;
    const row = unit / parts / sequence / groups;
    const begin = cut(members, part, parts);
    const stop = cut(members, part + 1, parts);
    const length = keyPages ? <i32>load<i64>(address(a, 20) + <usize>row * address(a, 21)) : 0;
    const kPages = keyPages ? <usize>load<u32>(keyPages + (<usize>row << 2)) : 0;
    const vPages = keyPages ? <usize>load<u32>(valuePages + (<usize>row << 2)) : 0;
    const kFresh = address(a, 10) + <usize>row * address(a, 11) + <usize>group * address(a, 12);
    const vFresh = address(a, 14) + <usize>row * address(a, 15) + <usize>group * address(a, 16);
    const kStep = address(a, 13);
    const vStep = address(a, 17);
    const q = address(a, 6) + <usize>row * address(a, 7) + <usize>token * address(a, 9);
    const y = address(a, 22) + <usize>row * address(a, 23) + <usize>token * address(a, 25);
    const count = length + token + 1;
    // Of each head: the largest logit so far, the sum of weights relative to it.
    const state = scratch + SUMS;
    for (let member = begin; member < stop; member++) {
      store<f32>(state + (<usize>member << 3), -Infinity);
      store<f32>(state + (<usize>member << 3), 0, 4);
      memory.fill(y + <usize>(group * members + member) * address(a, 24), 0, valueBytes);
    }
    const window = word(a, 26);
    const oldest = window > 0 ? max(0, count - window) : 0;
    for (let first = oldest - (oldest % PAGE); first < count; first += PAGE) {
      const block = min(PAGE, count - first);
      // Those that were there before lie in a page, the others among the new ones.
      const held = min(block, max(0, length - first));
      const kPage = held > 0 ? pageAt(kPages, first) + <usize>(group * PAGE) * bytes : 0;
      const vPage = held > 0 ? pageAt(vPages, first) + <usize>(group * PAGE) * valueStep : 0;
      const kNew = kFresh + <usize>(first + held - length) * kStep;
      const vNew = vFresh + <usize>(first + held - length) * vStep;
      for (let member = begin; member < stop; member++) {
        const head = group * members + member;
        const query = q + <usize>head * address(a, 8);
        const out = y + <usize>head * address(a, 24);
        const own = state + (<usize>member << 3);
        // Of a page, the first head fetches the values too.
        const ahead = member == begin && held > 0 ? valueStep : 0;
        logits(query, kPage, bytes, held, d, scale, weights, vPage, ahead);
        logits(query, kNew, kStep, block - held, d, scale, weights + (<usize>held << 2), 0, 0);
        for (let i = 0; i < oldest - first; i++) store<f32>(weights + (<usize>i << 2), -Infinity);
        for (let i = block; i & 3; i++) store<f32>(weights + (<usize>i << 2), -Infinity);
        let most = splat(-Infinity);
        for (let i: usize = 0; i < <usize>block << 2; i += 16) most = f32x4.max(most, v128.load(weights + i));
        const largest = lanesMax(most);
        const before = load<f32>(own);
        const now = max(before, largest);
        const shift = splat(now);
        let sums = splat(0);
        for (let i: usize = 0; i < <usize>block << 2; i += 16) {
          const e = exp4(f32x4.sub(v128.load(weights + i), shift));
          v128.store(weights + i, e);
          sums = f32x4.add(sums, e);
        }
        const keep = f32x4.extract_lane(exp4(splat(before - now)), 0);
        store<f32>(own, now);
        store<f32>(own, load<f32>(own, 4) * keep + lanesSum(sums), 4);
        addValues(out, keep, valueBytes, weights, vPage, held, valueStep, vNew, block, vStep);
      }
    }
    for (let member = begin; member < stop; member++) {
      const out = y + <usize>(group * members + member) * address(a, 24);
      const by: f32 = <f32>1 / load<f32>(state + (<usize>member << 3), 4);
      let i: usize = 0;
      for (const vectors = valueBytes & ~15; i < vectors; i += 16)
        v128.store(out + i, f32x4.mul(v128.load(out + i), splat(by)));
      for (; i < valueBytes; i += 4) store<f32>(out + i, load<f32>(out + i) * by);
    }
  }
}

// @ts-ignore: decorator
@inline
function pageAt(pages: usize, first: i32): usize {
  return <usize>load<u32>(pages + (<usize>(first / PAGE) << 2));
}

/** out = keep out + the sum of weights times values of a block, of which the first `held` lie in a page. */
function addValues(
  out: usize,
  keep: f32,
  bytes: usize,
  weights: usize,
  page: usize,
  held: i32,
  pageStep: usize,
  fresh: usize,
  block: i32,
  step: usize,
): void {
  const by = splat(keep);
  let i: usize = 0;
  for (const whole = bytes & ~63; i < whole; i += 64) {
    let s0 = f32x4.mul(v128.load(out + i), by);
    let s1 = f32x4.mul(v128.load(out + i, 16), by);
    let s2 = f32x4.mul(v128.load(out + i, 32), by);
    let s3 = f32x4.mul(v128.load(out + i, 48), by);
    let v = page + i;
    for (let j = 0; j < block; j++) {
      if (j == held) v = fresh + i;
      const w = v128.load32_splat(weights + (<usize>j << 2));
      s0 = f32x4.add(s0, f32x4.mul(w, v128.load(v)));
      s1 = f32x4.add(s1, f32x4.mul(w, v128.load(v, 16)));
      s2 = f32x4.add(s2, f32x4.mul(w, v128.load(v, 32)));
      s3 = f32x4.add(s3, f32x4.mul(w, v128.load(v, 48)));
      v += j < held ? pageStep : step;
    }
    v128.store(out + i, s0);
    v128.store(out + i, s1, 16);
    v128.store(out + i, s2, 32);
    v128.store(out + i, s3, 48);
  }
  for (; i < bytes; i += 4) {
    let s = load<f32>(out + i) * keep;
    let v = page + i;
    for (let j = 0; j < block; j++) {
      if (j == held) v = fresh + i;
      s += load<f32>(weights + (<usize>j << 2)) * load<f32>(v);
      v += j < held ? pageStep : step;
    }
    store<f32>(out + i, s);
  }
}
