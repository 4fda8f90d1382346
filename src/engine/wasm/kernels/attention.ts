// Attention of new tokens over a paged KV cache and over themselves. Entries are processed in blocks that begin at multiples of 64
// positions, whether cached or new, so that the order of sums does not depend on how a text was split into runs.
import { Element } from '../../../graph/lower/wasm/codes';
import { exp4, fromFloat16, lanesMax, lanesSum, splat } from './math';
import { address, cut, float, scratch, thread, word } from './memory';
import { PAGE } from './states';

/** Offsets in scratch memory: the running sums of each head of a part, then each head's weights of a block. */
const SUMS: usize = 0;
const WEIGHTS: usize = 1024;
const WEIGHT_BYTES: usize = PAGE << 2;
/** The most heads of a group that are processed together. */
const MOST_HEADS: i32 = 128;
/** The number of entries whose values are summed between two prefetches. */
const STRIDE: i32 = 16;

/** The dot product of a query and a key: each lane is summed over the head size, then the lanes are added. */
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

/** The dot products of a query and four keys, each summed in the same order. */
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

/** State of the prefetch: the next cache line, the end of its quarter, the quarter's size, and lines per call. */
let fetchAt: usize = 0;
let fetchEnd: usize = 0;
let fetchApart: usize = 0;
let fetchLines: i32 = 0;

/** Plans a prefetch that `fetchSome` performs in `calls` calls, from four streams at once, so that their latencies overlap. */
function startFetching(at: usize, bytes: usize, calls: i32): void {
  fetchAt = at;
  fetchApart = bytes >> 2;
  fetchEnd = at + fetchApart;
  fetchLines = (<i32>(bytes >> 8) + calls - 1) / calls;
}

// @ts-ignore: decorator
@inline
function fetchSome(): void {
  const apart = fetchApart;
  for (let i = 0; i < fetchLines && fetchAt < fetchEnd; i++) {
    const at = fetchAt;
    load<u8>(at);
    load<u8>(at + apart);
    load<u8>(at + 2 * apart);
    load<u8>(at + 3 * apart);
    fetchAt = at + 64;
  }
}

/** The logits of `count` keys. */
function logits(q: usize, k: usize, step: usize, count: i32, d: i32, scale: f32, to: usize): void {
  let i = 0;
  const bytes = <usize>d << 2;
  if ((d & 3) == 0) {
    for (; i + 4 <= count; i += 4) {
      fetchSome();
      v128.store(to + (<usize>i << 2), f32x4.mul(dotKeys(q, k, step, bytes), splat(scale)));
      k += 4 * step;
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
 * size of a value, and how many numbers lie between values in a page; the elements of keys' and of values' pages; of int8 codes the tables of
 * the rows' pages of scales, or 0; where pages of other than float32 are widened, and bytes between the threads' places there. Where there are fewer tokens and groups than threads, these
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
  const kKind = word(a, 29);
  const vKind = word(a, 30);
  const kStored = stored(kKind, bytes);
  const vStored = stored(vKind, valueStep);
  const room = address(a, 33) + <usize>thread * address(a, 34);
  const whole = word(a, 0) * groups * sequence;
  const enough = whole >= T ? 1 : min(members, (T + whole - 1) / max(1, whole));
  const parts = max(enough, (members + MOST_HEADS - 1) / MOST_HEADS);
  const units = whole * parts;
  const keyPages = address(a, 18);
  const valuePages = address(a, 19);
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
    // For each head: the largest logit so far, and the sum of weights relative to it (online softmax).
    for (let member = begin; member < stop; member++) {
      const own = scratch + SUMS + (<usize>(member - begin) << 3);
      store<f32>(own, -Infinity);
      store<f32>(own, 0, 4);
      memory.fill(y + <usize>(group * members + member) * address(a, 24), 0, valueBytes);
    }
    const window = word(a, 26);
    const oldest = window > 0 ? max(0, count - window) : 0;
    for (let first = oldest - (oldest % PAGE); first < count; first += PAGE) {
      const block = min(PAGE, count - first);
      // Entries of earlier runs are in a page, the others are new.
      const held = min(block, max(0, length - first));
      let kPage = held > 0 ? pageAt(kPages, first) + <usize>(group * PAGE) * kStored : 0;
      let vPage = held > 0 ? pageAt(vPages, first) + <usize>(group * PAGE) * vStored : 0;
      const kNew = kFresh + <usize>(first + held - length) * kStep;
      const vNew = vFresh + <usize>(first + held - length) * vStep;
      // A page's values are prefetched while its logits are computed, and the keys of the next page while its values are summed.
      startFetching(vPage, held > 0 ? vStored * PAGE : 0, (stop - begin) * (PAGE >> 2));
      if (held > 0 && kKind != Element.float32)
        kPage = widened(kKind, kPage, scalesAt(address(a, 31), row, first, group), held, d, room);
      for (let member = begin; member < stop; member++) {
        const query = q + <usize>(group * members + member) * address(a, 8);
        const weights = scratch + WEIGHTS + <usize>(member - begin) * WEIGHT_BYTES;
        logits(query, kPage, bytes, held, d, scale, weights);
        logits(query, kNew, kStep, block - held, d, scale, weights + (<usize>held << 2));
      }
      if (held > 0 && vKind != Element.float32)
        vPage = widened(vKind, vPage, scalesAt(address(a, 32), row, first, group), held, word(a, 28), room);
      const next = first + PAGE < length ? pageAt(kPages, first + PAGE) + <usize>(group * PAGE) * kStored : 0;
      const fetches = (stop - begin) * <i32>(max<usize>(1, valueBytes >> 6)) * (PAGE / STRIDE);
      startFetching(next, next ? kStored * PAGE : 0, fetches);
      for (let member = begin; member < stop; member++) {
        const out = y + <usize>(group * members + member) * address(a, 24);
        const own = scratch + SUMS + (<usize>(member - begin) << 3);
        const weights = scratch + WEIGHTS + <usize>(member - begin) * WEIGHT_BYTES;
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
      const by: f32 = <f32>1 / load<f32>(scratch + SUMS + (<usize>(member - begin) << 3), 4);
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

/** Bytes of an entry of a page, given its bytes in float32. */
// @ts-ignore: decorator
@inline
function stored(kind: i32, bytes: usize): usize {
  return kind == Element.float32 ? bytes : kind == Element.float16 ? bytes >> 1 : bytes >> 2;
}

/** The scales of a group's entries in a page, if the page is quantized. */
function scalesAt(table: usize, row: i32, first: i32, group: i32): usize {
  if (!table) return 0;
  return pageAt(<usize>load<u32>(table + (<usize>row << 2)), first) + (<usize>(group * PAGE) << 2);
}

/** Widens `count` entries of a page, each of `size` numbers, to float32 at `to`, and returns the address. */
function widened(kind: i32, page: usize, scales: usize, count: i32, size: i32, to: usize): usize {
  let out = to;
  if (kind == Element.float16) {
    const end = to + (<usize>(count * size) << 2);
    for (; out + 16 <= end; out += 16, page += 8) v128.store(out, fromFloat16x4(v128.load16x4_u(page)));
    for (; out < end; out += 4, page += 2) store<f32>(out, fromFloat16(<u32>load<u16>(page)));
    return to;
  }
  for (let entry = 0; entry < count; entry++) {
    const scale = load<f32>(scales + (<usize>entry << 2));
    const by = splat(scale);
    const end = out + (<usize>size << 2);
    for (; out + 32 <= end; out += 32, page += 8) {
      const codes = v128.load8x8_s(page);
      v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(codes)), by));
      v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(codes)), by), 16);
    }
    for (; out < end; out += 4, page++) store<f32>(out, <f32>load<i8>(page) * scale);
  }
  return to;
}

/** The numbers of four float16, in the lower halves of lanes; see `fromFloat16`. */
// @ts-ignore: decorator
@inline
function fromFloat16x4(halves: v128): v128 {
  const magnitude = v128.and(halves, i32x4.splat(0x7fff));
  const shifted = i32x4.shl(magnitude, 13);
  const finite = f32x4.mul(shifted, i32x4.splat(0x77800000));
  const isFinite = i32x4.lt_s(magnitude, i32x4.splat(0x7c00));
  const number = v128.bitselect(finite, v128.or(shifted, i32x4.splat(0x7f800000)), isFinite);
  return v128.or(number, i32x4.shl(v128.and(halves, i32x4.splat(0x8000)), 16));
}

/** out = keep * out + the sum of weights times the values of a block, of which the first `held` are in a page. */
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
    for (let j = 0; j < block; ) {
      fetchSome();
      for (const end = min(block, j + STRIDE); j < end; j++) {
        if (j == held) v = fresh + i;
        const w = v128.load32_splat(weights + (<usize>j << 2));
        s0 = f32x4.add(s0, f32x4.mul(w, v128.load(v)));
        s1 = f32x4.add(s1, f32x4.mul(w, v128.load(v, 16)));
        s2 = f32x4.add(s2, f32x4.mul(w, v128.load(v, 32)));
        s3 = f32x4.add(s3, f32x4.mul(w, v128.load(v, 48)));
        v += j < held ? pageStep : step;
      }
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
