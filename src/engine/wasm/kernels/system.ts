// A linear time-invariant system with a diagonal state matrix for each channel (S4D).
import { address, cut, rowOf, tokenAt, word } from './memory';
import { splat } from './math';

/**
 * h = a h + u, y = Re sum w h. words: batch, sequence, channels, size, parts (1 real, 2 complex), u with 3 words, a and w
 * [parts, channels, size], states before (a table, or 0), states after, y.
 */
export function channelSystem(a: usize, t: i32, T: i32): void {
  const batch = word(a, 0);
  const sequence = word(a, 1);
  const channels = word(a, 2);
  const size = word(a, 3);
  const isComplex = word(a, 4) == 2;
  const transitions = address(a, 8);
  const weights = address(a, 9);
  const before = address(a, 10);
  const after = address(a, 11);
  const y = address(a, 12);
  const units = batch * channels;
  const imaginary = <usize>(channels * size) << 2;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const row = unit / channels;
    const c = unit % channels;
    const first = <usize>(c * size) << 2;
    const to = rowOf(after, row) + first;
    let from = to;
    if (before) from = rowOf(before, row) + first;
    else {
      memory.fill(to, 0, <usize>size << 2);
      if (isComplex) memory.fill(to + imaginary, 0, <usize>size << 2);
    }
    const A = transitions + first;
    const w = weights + first;
    for (let token = 0; token < sequence; token++) {
      const u = load<f32>(tokenAt(a, 5, row, token) + (<usize>c << 2));
      let total: f32 = 0;
      let sums = splat(0);
      const u4 = splat(u);
      let i = 0;
      for (; i + 4 <= size; i += 4) {
        const p = <usize>i << 2;
        const re = v128.load(from + p);
        const aRe = v128.load(A + p);
        let next = f32x4.add(f32x4.mul(aRe, re), u4);
        if (isComplex) {
          const im = v128.load(from + p + imaginary);
          const aIm = v128.load(A + p + imaginary);
          next = f32x4.sub(next, f32x4.mul(aIm, im));
          const nextIm = f32x4.add(f32x4.mul(aRe, im), f32x4.mul(aIm, re));
          v128.store(to + p + imaginary, nextIm);
          sums = f32x4.sub(sums, f32x4.mul(v128.load(w + p + imaginary), nextIm));
        }
        v128.store(to + p, next);
        sums = f32x4.add(sums, f32x4.mul(v128.load(w + p), next));
      }
      for (; i < size; i++) {
        const p = <usize>i << 2;
        const re = load<f32>(from + p);
        const aRe = load<f32>(A + p);
        let next = aRe * re + u;
        if (isComplex) {
          const im = load<f32>(from + p + imaginary);
          const aIm = load<f32>(A + p + imaginary);
          next -= aIm * im;
          const nextIm = aRe * im + aIm * re;
          store<f32>(to + p + imaginary, nextIm);
          total -= load<f32>(w + p + imaginary) * nextIm;
        }
        store<f32>(to + p, next);
        total += load<f32>(w + p) * next;
      }
      total += f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1);
      total += f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3);
      store<f32>(y + (<usize>((row * sequence + token) * channels + c) << 2), total);
      from = to;
    }
  }
}
