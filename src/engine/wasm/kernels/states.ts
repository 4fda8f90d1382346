// Copies the states of a batch's rows to contiguous tensors and back. Growing states are stored in pages of 64 entries.
import { PAGE_ENTRIES } from '../../../graph/lower/wasm/codes';
import { address, cut, word } from './memory';

/** Entries of a page. */
export const PAGE: i32 = PAGE_ENTRIES;

// @ts-ignore: decorator
@inline
function at(table: usize, i: i32): usize {
  return <usize>load<u32>(table + (<usize>i << 2));
}

/** words: table of rows, rows, bytes of a row, y. */
export function loadRows(a: usize, t: i32, T: i32): void {
  const rows = word(a, 1);
  const bytes = address(a, 2);
  for (let i = cut(rows, t, T), end = cut(rows, t + 1, T); i < end; i++)
    memory.copy(address(a, 3) + <usize>i * bytes, at(address(a, 0), i), bytes);
}

/** words: table of rows, rows, bytes of a row, x. */
export function storeRows(a: usize, t: i32, T: i32): void {
  const rows = word(a, 1);
  const bytes = address(a, 2);
  for (let i = cut(rows, t, T), end = cut(rows, t + 1, T); i < end; i++)
    memory.copy(at(address(a, 0), i), address(a, 3) + <usize>i * bytes, bytes);
}

/**
 * words: table of the rows' tables of pages, lengths (int64), rows, outer, bytes of an entry of each outer, room, y
 * [rows, outer, room, entry]. y is zero behind the entries.
 */
export function loadEntries(a: usize, t: i32, T: i32): void {
  const outer = word(a, 3);
  const bytes = address(a, 4);
  const room = word(a, 5);
  const units = word(a, 2) * outer;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const row = unit / outer;
    const pages = at(address(a, 0), row);
    const length = <i32>load<i64>(address(a, 1) + (<usize>row << 3));
    const y = address(a, 6) + <usize>unit * <usize>room * bytes;
    for (let first = 0; first < length; first += PAGE) {
      const page = at(pages, first / PAGE) + <usize>((unit % outer) * PAGE) * bytes;
      memory.copy(y + <usize>first * bytes, page, <usize>min(PAGE, length - first) * bytes);
    }
    memory.fill(y + <usize>length * bytes, 0, <usize>(room - length) * bytes);
  }
}

/** words: table of the rows' tables of pages, lengths (int64), rows, outer, bytes of an entry, count, x [rows, outer, count, entry]. */
export function appendEntries(a: usize, t: i32, T: i32): void {
  const outer = word(a, 3);
  const bytes = address(a, 4);
  const count = word(a, 5);
  const units = word(a, 2) * outer;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const row = unit / outer;
    const pages = at(address(a, 0), row);
    const length = <i32>load<i64>(address(a, 1) + (<usize>row << 3));
    for (let i = 0; i < count; i++) {
      const entry = length + i;
      const to = at(pages, entry / PAGE) + <usize>((unit % outer) * PAGE + entry % PAGE) * bytes;
      memory.copy(to, address(a, 6) + <usize>(unit * count + i) * bytes, bytes);
    }
  }
}
