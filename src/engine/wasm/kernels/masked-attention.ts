// Attention with a bias for each entry, of which many may be masked, as in sliding windows and selected sets. Masked entries are skipped
// instead of added as zeros, so that a token's sums depend only on the entries that it sees and on their order.
import { dotRows } from './attention';
import { exp4, lanesSum, splat } from './math';
import { address, cut, float, scratch, word } from './memory';

/** A bias below this masks an entry: its exp() is 0 in float32. */
const HIDDEN: f32 = -1e29;
/** Entries of a block. */
const BLOCK: i32 = 64;
/** Offsets in scratch memory: the weights of a block's visible entries, and their indices. */
const WEIGHTS: usize = 0;
const ENTRIES: usize = 256;

/**
 * words: batch, heads, key-value heads, sequence, entries, head size, value size, scale; then query, keys, values, y, each its
 * address and bytes between rows, heads and tokens; the bias: its address and bytes between rows, heads, tokens and entries.
 */
export function maskedAttention(a: usize, t: i32, T: i32): void {
  const heads = word(a, 1);
  const groups = word(a, 2);
  const sequence = word(a, 3);
  const entries = word(a, 4);
  const d = word(a, 5);
  const valueBytes = <usize>word(a, 6) << 2;
  const scale = float(a, 7);
  const weights = scratch + WEIGHTS;
  const seen = scratch + ENTRIES;
  const units = word(a, 0) * heads * sequence;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const token = unit % sequence;
    const head = (unit / sequence) % heads;
    const row = unit / sequence / heads;
    const group = head / (heads / groups);
    const q = at(a, 8, row, head) + <usize>token * address(a, 11);
    const keys = at(a, 12, row, group);
    const values = at(a, 16, row, group);
    const y = at(a, 20, row, head) + <usize>token * address(a, 23);
    const bias = at(a, 24, row, head) + <usize>token * address(a, 27);
    const step = address(a, 28);
    memory.fill(y, 0, valueBytes);
    let largest: f32 = -Infinity;
    for (let i = 0; i < entries; i++) largest = max(largest, load<f32>(bias + <usize>i * step));
    // If all entries are masked, none is.
    const least: f32 = largest > HIDDEN ? HIDDEN : -Infinity;
    largest = -Infinity;
    let total: f32 = 0;
    for (let next = 0; next < entries; ) {
      let count = 0;
      let now = largest;
      for (; next < entries && count < BLOCK; next++) {
        const own = load<f32>(bias + <usize>next * step);
        if (own < least) continue;
        const logit: f32 = dotRows(q, keys + <usize>next * address(a, 15), d) * scale + own;
        store<f32>(weights + (<usize>count << 2), logit);
        store<i32>(seen + (<usize>count << 2), next);
        now = max(now, logit);
        count++;
      }
      if (count == 0) break;
      for (let i = count; i & 3; i++) store<f32>(weights + (<usize>i << 2), -Infinity);
      const shift = splat(now);
      let sums = splat(0);
      for (let i: usize = 0; i < <usize>count << 2; i += 16) {
        const e = exp4(f32x4.sub(v128.load(weights + i), shift));
        v128.store(weights + i, e);
        sums = f32x4.add(sums, e);
      }
      const keep = f32x4.extract_lane(exp4(splat(largest - now)), 0);
      largest = now;
      total = total * keep + lanesSum(sums);
      addValues(y, keep, valueBytes, values, address(a, 19), count);
    }
    const by: f32 = <f32>1 / total;
    for (let i: usize = 0; i < valueBytes; i += 4) store<f32>(y + i, load<f32>(y + i) * by);
  }
}

/** The address of a row's head in an operand. */
// @ts-ignore: decorator
@inline
function at(a: usize, i: i32, row: i32, head: i32): usize {
  return address(a, i) + <usize>row * address(a, i + 1) + <usize>head * address(a, i + 2);
}

/** y = keep * y + the sum of weights times the values of a block's entries, in order. */
function addValues(y: usize, keep: f32, bytes: usize, values: usize, step: usize, count: i32): void {
  const weights = scratch + WEIGHTS;
  const seen = scratch + ENTRIES;
  const by = splat(keep);
  let i: usize = 0;
  for (const whole = bytes & ~15; i < whole; i += 16) {
    let sum = f32x4.mul(v128.load(y + i), by);
    for (let j: usize = 0; j < <usize>count << 2; j += 4) {
      const v = values + <usize>load<i32>(seen + j) * step + i;
      sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(weights + j), v128.load(v)));
    }
    v128.store(y + i, sum);
  }
  for (; i < bytes; i += 4) {
    let sum = load<f32>(y + i) * keep;
    for (let j: usize = 0; j < <usize>count << 2; j += 4) {
      sum += load<f32>(weights + j) * load<f32>(values + <usize>load<i32>(seen + j) * step + i);
    }
    store<f32>(y + i, sum);
  }
}
