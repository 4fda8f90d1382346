// A mixture of experts, of which only those that a token uses are read.
import { silu4, splat } from './math';
import { address, cut, word } from './memory';
import { dotOf } from './matmul';
import { Element } from '../../../graph/lower/wasm/codes';

/**
 * The hidden values of each expert that a token uses, one after the other in the order of the experts. words: element of the
 * matrices, tokens, experts, at most so many a token, hidden, inner, whether swiglu (else relu2), x, weights
 * [tokens, experts], up [experts, inner or 2 inner, hidden], y [tokens, at most, inner].
 */
export function expertsUp(a: usize, t: i32, T: i32): void {
  const kind = word(a, 0);
  const experts = word(a, 2);
  const most = word(a, 3);
  const hidden = word(a, 4);
  const inner = word(a, 5);
  const isGated = word(a, 6) != 0;
  const row = <usize>hidden << (kind == Element.bfloat16 ? 1 : 2);
  const matrix = row * <usize>(isGated ? 2 * inner : inner);
  for (let token = 0; token < word(a, 1); token++) {
    const x = address(a, 7) + (<usize>(token * hidden) << 2);
    const shares = address(a, 8) + (<usize>(token * experts) << 2);
    let slot = 0;
    for (let expert = 0; expert < experts && slot < most; expert++) {
      if (load<f32>(shares + (<usize>expert << 2)) == 0) continue;
      const up = address(a, 9) + <usize>expert * matrix;
      const y = address(a, 10) + (<usize>((token * most + slot) * inner) << 2);
      for (let i = cut(inner, t, T), end = cut(inner, t + 1, T); i < end; i++) {
        let value = dotOf(kind, x, up + <usize>i * row, hidden);
        if (isGated) {
          value = f32x4.extract_lane(silu4(splat(value)), 0) * dotOf(kind, x, up + <usize>(inner + i) * row, hidden);
        } else {
          value = max<f32>(value, 0);
          value *= value;
        }
        store<f32>(y + (<usize>i << 2), value);
      }
      slot++;
    }
  }
}

/** words: element, tokens, experts, at most, hidden, inner, weights, hidden values, down [experts, hidden, inner], y. */
export function expertsDown(a: usize, t: i32, T: i32): void {
  const kind = word(a, 0);
  const experts = word(a, 2);
  const most = word(a, 3);
  const hidden = word(a, 4);
  const inner = word(a, 5);
  const row = <usize>inner << (kind == Element.bfloat16 ? 1 : 2);
  const matrix = row * <usize>hidden;
  const first = cut(hidden, t, T);
  const end = cut(hidden, t + 1, T);
  for (let token = 0; token < word(a, 1); token++) {
    const shares = address(a, 6) + (<usize>(token * experts) << 2);
    const y = address(a, 9) + (<usize>(token * hidden) << 2);
    for (let i = first; i < end; i++) store<f32>(y + (<usize>i << 2), 0);
    let slot = 0;
    for (let expert = 0; expert < experts && slot < most; expert++) {
      const share = load<f32>(shares + (<usize>expert << 2));
      if (share == 0) continue;
      const down = address(a, 8) + <usize>expert * matrix;
      const x = address(a, 7) + (<usize>((token * most + slot) * inner) << 2);
      for (let i = first; i < end; i++) {
        const to = y + (<usize>i << 2);
        store<f32>(to, load<f32>(to) + share * dotOf(kind, x, down + <usize>i * row, inner));
      }
      slot++;
    }
  }
}
