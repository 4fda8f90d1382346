// Gathering and scattering by index, and top-k.
import { Element } from '../../../graph/lower/wasm/codes';
import { INDEX_OUT_OF_RANGE, address, cut, fail, thread, word } from './memory';
import { unpackRow } from './packed';

/** An index of int64 or int32; negative ones count from the end. -1 and a recorded failure if it is out of range. */
function indexAt(indices: usize, kind: i32, i: i32, size: i32): i32 {
  let index: i64 = kind == Element.int64 ? load<i64>(indices + (<usize>i << 3)) : load<i32>(indices + (<usize>i << 2));
  if (index < 0) index += size;
  if (index >= 0 && index < size) return <i32>index;
  fail(INDEX_OUT_OF_RANGE);
  return -1;
}

/** words: whether rows are bfloat16 to be widened, bytes of a row, rows, indices, their element, count, table, y. */
export function gather(a: usize, t: i32, T: i32): void {
  const isHalf = word(a, 0) != 0;
  const bytes = address(a, 1);
  const rows = word(a, 2);
  const count = word(a, 5);
  for (let i = cut(count, t, T), end = cut(count, t + 1, T); i < end; i++) {
    const index = indexAt(address(a, 3), word(a, 4), i, rows);
    if (isHalf) {
      const y = address(a, 7) + <usize>i * (bytes << 1);
      if (index < 0) memory.fill(y, 0, bytes << 1);
      else {
        const x = address(a, 6) + <usize>index * bytes;
        for (let b: usize = 0; b < bytes; b += 2) store<u32>(y + (b << 1), <u32>load<u16>(x + b) << 16);
      }
    } else {
      const y = address(a, 7) + <usize>i * bytes;
      if (index < 0) memory.fill(y, 0, bytes);
      else memory.copy(y, address(a, 6) + <usize>index * bytes, bytes);
    }
  }
}

/** words: bits, block, columns, rows, indices, their element, count, codes, scales, y. */
export function gatherPacked(a: usize, t: i32, T: i32): void {
  const bits = word(a, 0);
  const block = word(a, 1);
  const columns = word(a, 2);
  const count = word(a, 6);
  const blocks = (columns + block - 1) / block;
  for (let i = cut(count, t, T), end = cut(count, t + 1, T); i < end; i++) {
    const index = indexAt(address(a, 4), word(a, 5), i, word(a, 3));
    const y = address(a, 9) + (<usize>(i * columns) << 2);
    if (index < 0) {
      memory.fill(y, 0, <usize>columns << 2);
      continue;
    }
    const codes = address(a, 7) + <usize>index * ((<usize>(blocks * block) * <usize>bits) >> 3);
    unpackRow(bits, block, codes, address(a, 8) + <usize>index * (<usize>blocks << 2), columns, y);
  }
}

/** words: bytes of an element, x, indices, their element, y, outer, size of x, size of y, inner. */
export function gatherElements(a: usize, t: i32, T: i32): void {
  const bytes = address(a, 0);
  const x = address(a, 1);
  const y = address(a, 4);
  const size = word(a, 6);
  const n = word(a, 7);
  const inner = word(a, 8);
  const count = word(a, 5) * n * inner;
  for (let i = cut(count, t, T), end = cut(count, t + 1, T); i < end; i++) {
    const index = max(indexAt(address(a, 2), word(a, 3), i, size), 0);
    const from = x + <usize>((i / (n * inner)) * size * inner + index * inner + (i % inner)) * bytes;
    const to = y + <usize>i * bytes;
    if (bytes == 4) store<u32>(to, load<u32>(from));
    else if (bytes == 8) store<u64>(to, load<u64>(from));
    else if (bytes == 2) store<u16>(to, load<u16>(from));
    else store<u8>(to, load<u8>(from));
  }
}

/** words: element, x, indices, their element, updates, y, outer, size of x, size of updates, inner. Adds, in order. */
export function scatterElements(a: usize, t: i32, T: i32): void {
  const kind = word(a, 0);
  const x = address(a, 1);
  const updates = address(a, 4);
  const y = address(a, 5);
  const size = word(a, 7);
  const n = word(a, 8);
  const inner = word(a, 9);
  const lines = word(a, 6) * inner;
  for (let line = cut(lines, t, T), end = cut(lines, t + 1, T); line < end; line++) {
    const outer = line / inner;
    const start = outer * size * inner + (line % inner);
    for (let i = 0; i < size; i++) {
      const at = <usize>(start + i * inner);
      if (kind == Element.int64) store<i64>(y + (at << 3), load<i64>(x + (at << 3)));
      else store<u32>(y + (at << 2), load<u32>(x + (at << 2)));
    }
    for (let i = 0; i < n; i++) {
      const from = outer * n * inner + i * inner + (line % inner);
      const index = indexAt(address(a, 2), word(a, 3), from, size);
      if (index < 0) continue;
      const at = <usize>(start + index * inner);
      const to = y + (at << (kind == Element.int64 ? 3 : 2));
      if (kind == Element.float32) store<f32>(to, load<f32>(to) + load<f32>(updates + (<usize>from << 2)));
      else if (kind == Element.int64) store<i64>(to, load<i64>(to) + load<i64>(updates + (<usize>from << 3)));
      else store<i32>(to, load<i32>(to) + load<i32>(updates + (<usize>from << 2)));
    }
  }
}

/** Whether entry p of a heap ranks behind entry q: smaller, or equal and later. */
// @ts-ignore: decorator
@inline
function isBehind(p: usize, q: usize): bool {
  const x = load<f32>(p);
  const y = load<f32>(q);
  return x < y || (x == y && load<i32>(p, 4) > load<i32>(q, 4));
}

/** Restores the heap from entry i downwards (sift down). */
function sink(heap: usize, i: i32, size: i32): void {
  for (;;) {
    let child = 2 * i + 1;
    if (child >= size) return;
    if (child + 1 < size && isBehind(heap + (<usize>(child + 1) << 3), heap + (<usize>child << 3))) child++;
    const p = heap + (<usize>i << 3);
    const q = heap + (<usize>child << 3);
    if (!isBehind(q, p)) return;
    const entry = load<u64>(p);
    store<u64>(p, load<u64>(q));
    store<u64>(q, entry);
    i = child;
  }
}

/** words: x, values, indices, outer, size, inner, k, memory for heaps, bytes between those of threads. */
export function topK(a: usize, t: i32, T: i32): void {
  const size = word(a, 4);
  const inner = word(a, 5);
  const k = word(a, 6);
  const lines = word(a, 3) * inner;
  const heap = address(a, 7) + <usize>thread * address(a, 8);
  for (let line = cut(lines, t, T), end = cut(lines, t + 1, T); line < end; line++) {
    const x = address(a, 0) + (<usize>((line / inner) * size * inner + (line % inner)) << 2);
    const step = <usize>inner << 2;
    // A heap of the k largest so far, with the smallest on top.
    for (let i = 0; i < k; i++) {
      store<f32>(heap + (<usize>i << 3), load<f32>(x + <usize>i * step));
      store<i32>(heap + (<usize>i << 3), i, 4);
    }
    for (let i = (k >> 1) - 1; i >= 0; i--) sink(heap, i, k);
    for (let i = k; i < size; i++) {
      const value = load<f32>(x + <usize>i * step);
      if (k > 0 && value > load<f32>(heap)) {
        store<f32>(heap, value);
        store<i32>(heap, i, 4);
        sink(heap, 0, k);
      }
    }
    const out = (line / inner) * k * inner + (line % inner);
    for (let left = k - 1; left >= 0; left--) {
      const at = <usize>(out + left * inner);
      store<f32>(address(a, 1) + (at << 2), load<f32>(heap));
      store<i64>(address(a, 2) + (at << 3), load<i32>(heap, 4));
      store<u64>(heap, load<u64>(heap + (<usize>left << 3)));
      sink(heap, 0, left);
    }
  }
}
