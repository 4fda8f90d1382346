// The causal convolution. Its states have the layout of the recurrence's states.
import { splat } from './math';
import { address, cut, rowOf, tokenAt, word } from './memory';

/**
 * The causal convolution of each channel. words: batch, sequence, channels, width, x with 3 words, taps [width, channels],
 * bias or 0, states before (a table, or 0), states after (a table, or 0), y.
 */
export function convolution(a: usize, t: i32, T: i32): void {
  const batch = word(a, 0);
  const sequence = word(a, 1);
  const channels = word(a, 2);
  const width = word(a, 3);
  const taps = address(a, 7);
  const bias = address(a, 8);
  const before = address(a, 9);
  const after = address(a, 10);
  const y = address(a, 11);
  const chunks = (channels + 15) >> 4;
  const units = batch * chunks;
  const stride = <usize>channels << 2;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const row = unit / chunks;
    const first = (unit % chunks) << 4;
    const count = min(16, channels - first);
    const past = before ? rowOf(before, row) : 0;
    for (let token = 0; token < sequence; token++) {
      const out = y + (<usize>((row * sequence + token) * channels) << 2);
      let done = first;
      for (; done + 4 <= first + count; done += 4) {
        const d = <usize>done << 2;
        let sum = bias ? v128.load(bias + d) : splat(0);
        for (let i = 0; i < width; i++) {
          const from = token - width + 1 + i;
          if (from < 0 && !past) continue;
          const x = from < 0 ? past + <usize>(from + width - 1) * stride : tokenAt(a, 4, row, from);
          sum = f32x4.add(sum, f32x4.mul(v128.load(x + d), v128.load(taps + <usize>i * stride + d)));
        }
        v128.store(out + d, sum);
      }
      for (; done < first + count; done++) {
        const d = <usize>done << 2;
        let sum: f32 = bias ? load<f32>(bias + d) : 0;
        for (let i = 0; i < width; i++) {
          const from = token - width + 1 + i;
          if (from < 0 && !past) continue;
          const x = from < 0 ? past + <usize>(from + width - 1) * stride : tokenAt(a, 4, row, from);
          sum += load<f32>(x + d) * load<f32>(taps + <usize>i * stride + d);
        }
        store<f32>(out + d, sum);
      }
    }
    if (!after) continue;
    const c = <usize>first << 2;
    for (let i = 0; i < width - 1; i++) {
      const from = sequence - width + 1 + i;
      const to = rowOf(after, row) + <usize>i * stride + c;
      if (from >= 0) memory.copy(to, tokenAt(a, 4, row, from) + c, <usize>count << 2);
      else if (past) memory.copy(to, past + <usize>(from + width - 1) * stride + c, <usize>count << 2);
      else memory.fill(to, 0, <usize>count << 2);
    }
  }
}
