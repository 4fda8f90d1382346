// A mixture of experts that reads only the experts which some token uses: row by row, each row for all tokens that use it. A token's sum
// goes over its experts in ascending order, whatever the other tokens use.
import { Element } from '../../../graph/lower/wasm/codes';
import { apartIn, dotsOf, firstIn, groupsOf } from './matmul';
import { silu4, splat } from './math';
import { address, cut, word } from './memory';
import { gathered, rows, storeLanes } from './packed';
import { numberBytes, rowBytes } from './quantize';

/**
 * Lists the tokens of each expert, ordered by expert. words: tokens, experts, the most experts of a token, weights [tokens, experts],
 * lists: int32 [experts + 1] with the index of each expert's first entry, then the token of each entry.
 */
export function expertLists(a: usize, t: i32, T: i32): void {
  if (t != 0) return;
  const tokens = word(a, 0);
  const experts = word(a, 1);
  const most = word(a, 2);
  const shares = address(a, 3);
  const starts = address(a, 4);
  const entries = tokensIn(starts, experts);
  memory.fill(starts, 0, <usize>(experts + 1) << 2);
  for (let token = 0; token < tokens; token++) {
    const row = shares + (<usize>(token * experts) << 2);
    for (let expert = 0, slot = 0; expert < experts && slot < most; expert++) {
      if (load<f32>(row + (<usize>expert << 2)) == 0) continue;
      const at = starts + (<usize>expert << 2);
      store<i32>(at, load<i32>(at) + 1);
      slot++;
    }
  }
  // Counts become the ends of each expert's entries, which become the beginnings while entries are filled from the last one.
  let sum = 0;
  for (let expert = 0; expert <= experts; expert++) {
    const at = starts + (<usize>expert << 2);
    sum += load<i32>(at);
    store<i32>(at, sum);
  }
  for (let token = tokens - 1; token >= 0; token--) {
    const row = shares + (<usize>(token * experts) << 2);
    for (let expert = 0, slot = 0; expert < experts && slot < most; expert++) {
      if (load<f32>(row + (<usize>expert << 2)) == 0) continue;
      const at = starts + (<usize>expert << 2);
      const entry = load<i32>(at) - 1;
      store<i32>(at, entry);
      store<i32>(entries + (<usize>entry << 2), token);
      slot++;
    }
  }
}

// @ts-ignore: decorator
@inline
function tokensIn(lists: usize, experts: i32): usize {
  return lists + (<usize>(experts + 1) << 2);
}

/**
 * activation(up x) of each entry. words: element of the matrices, experts, hidden, inner, whether swiglu (else relu2), lists, x
 * [tokens, hidden], up [experts, inner or 2 inner, hidden], y [entries, inner].
 */
export function expertsUp(a: usize, t: i32, T: i32): void {
  const kind = word(a, 0);
  const experts = word(a, 1);
  const hidden = word(a, 2);
  const inner = word(a, 3);
  const isGated = word(a, 4) != 0;
  const starts = address(a, 5);
  const entries = tokensIn(starts, experts);
  const row = <usize>hidden << (kind == Element.bfloat16 ? 1 : 2);
  const matrix = row * <usize>(isGated ? 2 * inner : inner);
  const first = cut(inner, t, T);
  const count = cut(inner, t + 1, T) - first;
  for (let expert = 0; expert < experts; expert++) {
    const up = address(a, 7) + <usize>expert * matrix;
    const last = word(starts, expert + 1);
    if (word(starts, expert) == last) continue;
    for (let group = 0; group < groupsOf(count); group++) {
      const apart = apartIn(group, count);
      const i = first + firstIn(group, count);
      const w = up + <usize>i * row;
      for (let entry = word(starts, expert); entry < last; entry++) {
        const x = address(a, 6) + (<usize>(word(entries, entry) * hidden) << 2);
        const values = dotsOf(kind, x, w, apart * row, hidden);
        const y = address(a, 8) + (<usize>(entry * inner + i) << 2);
        storeLanes(y, apart << 2, isGated ? f32x4.mul(silu4(values), dotsOf(kind, x, w + <usize>inner * row, apart * row, hidden)) : relu2(values));
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function relu2(x: v128): v128 {
  const positive = f32x4.max(x, splat(0));
  return f32x4.mul(positive, positive);
}

/**
 * The weighted sum of down times each token's entries. words: element, experts, hidden, inner, tokens, lists, entries' values
 * [entries, inner], down [experts, hidden, inner], weights [tokens, experts], y [tokens, hidden].
 */
export function expertsDown(a: usize, t: i32, T: i32): void {
  const kind = word(a, 0);
  const experts = word(a, 1);
  const hidden = word(a, 2);
  const inner = word(a, 3);
  const starts = address(a, 5);
  const entries = tokensIn(starts, experts);
  const shares = address(a, 8);
  const y = address(a, 9);
  const row = <usize>inner << (kind == Element.bfloat16 ? 1 : 2);
  const first = cut(hidden, t, T);
  const count = cut(hidden, t + 1, T) - first;
  for (let token = 0; token < word(a, 4); token++)
    memory.fill(y + (<usize>(token * hidden + first) << 2), 0, <usize>count << 2);
  for (let expert = 0; expert < experts; expert++) {
    const down = address(a, 7) + <usize>expert * row * <usize>hidden;
    const last = word(starts, expert + 1);
    if (word(starts, expert) == last) continue;
    for (let group = 0; group < groupsOf(count); group++) {
      const apart = apartIn(group, count);
      const i = first + firstIn(group, count);
      const w = down + <usize>i * row;
      for (let entry = word(starts, expert); entry < last; entry++) {
        const token = word(entries, entry);
        const share = splat(load<f32>(shares + (<usize>(token * experts + expert) << 2)));
        const x = address(a, 6) + (<usize>(entry * inner) << 2);
        const to = y + (<usize>(token * hidden + i) << 2);
        const added = f32x4.mul(share, dotsOf(kind, x, w, apart * row, inner));
        storeLanes(to, apart << 2, f32x4.add(gathered(to, apart << 2), added));
      }
    }
  }
}

/**
 * `expertsUp` with matrices in blocks of 4 or 8 bits, four rows at once as in `packedMatmul`. words: bits, block, experts, hidden, inner,
 * whether swiglu, lists, quantized rows of x, codes, scales, y.
 */
export function packedExpertsUp(a: usize, t: i32, T: i32): void {
  const bits = word(a, 0);
  const block = word(a, 1);
  const experts = word(a, 2);
  const hidden = word(a, 3);
  const inner = word(a, 4);
  const isGated = word(a, 5) != 0;
  const starts = address(a, 6);
  const entries = tokensIn(starts, experts);
  const blocks = (hidden + block - 1) / block;
  const xRow = rowBytes(hidden, block);
  const numbers = numberBytes(hidden, block);
  const codeRow = (<usize>(blocks * block) * <usize>bits) >> 3;
  const scaleRow = <usize>blocks << 2;
  const quarter = inner >> 2;
  const first = cut(quarter, t, T);
  const end = cut(quarter, t + 1, T);
  // The rows left over from groups of four belong to the last part.
  const rest = t == T - 1 ? inner & 3 : 0;
  for (let expert = 0; expert < experts; expert++) {
    const top = expert * (isGated ? 2 * inner : inner);
    const last = word(starts, expert + 1);
    if (word(starts, expert) == last) continue;
    for (let i = first; i < end + rest; i++) {
      const apart: usize = i < end ? quarter : 0;
      const row = i < end ? i : inner - 1 - (i - end);
      const c = address(a, 8) + <usize>(top + row) * codeRow;
      const s = address(a, 9) + <usize>(top + row) * scaleRow;
      for (let entry = word(starts, expert); entry < last; entry++) {
        const x = address(a, 7) + <usize>word(entries, entry) * xRow;
        let values = rows(bits, c, apart * codeRow, s, apart * scaleRow, x, x + numbers, block, blocks);
        if (isGated) {
          const cValue = c + <usize>inner * codeRow;
          const sValue = s + <usize>inner * scaleRow;
          values = f32x4.mul(
            silu4(values),
            rows(bits, cValue, apart * codeRow, sValue, apart * scaleRow, x, x + numbers, block, blocks),
          );
        } else {
          values = relu2(values);
        }
        storeLanes(address(a, 10) + (<usize>(entry * inner + row) << 2), apart << 2, values);
      }
    }
  }
}

/**
 * `expertsDown` in the same way. words: bits, block, experts, hidden, inner, tokens, lists, quantized rows of the entries' values, codes,
 * scales, weights, y.
 */
export function packedExpertsDown(a: usize, t: i32, T: i32): void {
  const bits = word(a, 0);
  const block = word(a, 1);
  const experts = word(a, 2);
  const hidden = word(a, 3);
  const inner = word(a, 4);
  const starts = address(a, 6);
  const entries = tokensIn(starts, experts);
  const shares = address(a, 10);
  const y = address(a, 11);
  const blocks = (inner + block - 1) / block;
  const xRow = rowBytes(inner, block);
  const numbers = numberBytes(inner, block);
  const codeRow = (<usize>(blocks * block) * <usize>bits) >> 3;
  const scaleRow = <usize>blocks << 2;
  const quarter = hidden >> 2;
  const first = cut(quarter, t, T);
  const end = cut(quarter, t + 1, T);
  const rest = t == T - 1 ? hidden & 3 : 0;
  for (let token = 0; token < word(a, 5); token++) {
    for (let i = first; i < end; i++) storeLanes(y + (<usize>(token * hidden + i) << 2), <usize>quarter << 2, splat(0));
    for (let i = hidden - rest; i < hidden; i++) store<f32>(y + (<usize>(token * hidden + i) << 2), 0);
  }
  for (let expert = 0; expert < experts; expert++) {
    const last = word(starts, expert + 1);
    if (word(starts, expert) == last) continue;
    for (let i = first; i < end + rest; i++) {
      const apart: usize = i < end ? quarter : 0;
      const row = i < end ? i : hidden - 1 - (i - end);
      const c = address(a, 8) + <usize>(expert * hidden + row) * codeRow;
      const s = address(a, 9) + <usize>(expert * hidden + row) * scaleRow;
      for (let entry = word(starts, expert); entry < last; entry++) {
        const token = word(entries, entry);
        const share = splat(load<f32>(shares + (<usize>(token * experts + expert) << 2)));
        const x = address(a, 7) + <usize>entry * xRow;
        const added = f32x4.mul(
          share,
          rows(bits, c, apart * codeRow, s, apart * scaleRow, x, x + numbers, block, blocks),
        );
        const to = y + (<usize>(token * hidden + row) << 2);
        storeLanes(to, apart << 2, f32x4.add(gathered(to, apart << 2), added));
      }
    }
  }
}
