// Mamba's selective scan. Its states have the layout of the recurrence's states.
import { exp1, exp4, splat } from './math';
import { address, cut, rowOf, tokenAt, word } from './memory';

/**
 * h = exp(step * rate) h + key * value, y = query . h, each channel separately. words: batch, sequence, width, size, then
 * value, step, key, query with 3 words each, rates [size, width], states before (a table, or 0), states after, y.
 */
export function scan(a: usize, t: i32, T: i32): void {
  const batch = word(a, 0);
  const sequence = word(a, 1);
  const width = word(a, 2);
  const size = word(a, 3);
  const rates = address(a, 16);
  const before = address(a, 17);
  const after = address(a, 18);
  const y = address(a, 19);
  const chunks = (width + 15) >> 4;
  const units = batch * chunks;
  const stride = <usize>width << 2;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const row = unit / chunks;
    const first = (unit % chunks) << 4;
    const count = min(16, width - first);
    const c = <usize>first << 2;
    const to = rowOf(after, row) + c;
    let from = to;
    if (before) from = rowOf(before, row) + c;
    else for (let i = 0; i < size; i++) memory.fill(to + <usize>i * stride, 0, <usize>count << 2);
    for (let token = 0; token < sequence; token++) {
      const v = tokenAt(a, 4, row, token) + c;
      const s = tokenAt(a, 7, row, token) + c;
      const k = tokenAt(a, 10, row, token);
      const q = tokenAt(a, 13, row, token);
      const out = y + (<usize>((row * sequence + token) * width) << 2) + c;
      let done = 0;
      for (; done + 4 <= count; done += 4) {
        const d = <usize>done << 2;
        const value = v128.load(v + d);
        const step = v128.load(s + d);
        let sum = splat(0);
        for (let i = 0; i < size; i++) {
          const p = <usize>i * stride + d;
          const decay = exp4(f32x4.mul(step, v128.load(rates + c + p)));
          const h = f32x4.add(
            f32x4.mul(decay, v128.load(from + p)),
            f32x4.mul(v128.load32_splat(k + (<usize>i << 2)), value),
          );
          v128.store(to + p, h);
          sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(q + (<usize>i << 2)), h));
        }
        v128.store(out + d, sum);
      }
      for (; done < count; done++) {
        const d = <usize>done << 2;
        let sum: f32 = 0;
        for (let i = 0; i < size; i++) {
          const p = <usize>i * stride + d;
          const decay = exp1(load<f32>(s + d) * load<f32>(rates + c + p));
          const h = decay * load<f32>(from + p) + load<f32>(k + (<usize>i << 2)) * load<f32>(v + d);
          store<f32>(to + p, h);
          sum += load<f32>(q + (<usize>i << 2)) * h;
        }
        store<f32>(out + d, sum);
      }
      from = to;
    }
  }
}
