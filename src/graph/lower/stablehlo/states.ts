/** Growing states: buffers to which each row appends at its own length. */
import type { StableHloBuilder } from './builder.js';
import type { Plain } from './value.js';

/** `old` with `entries` at [lengths[i], lengths[i] + added) of row i's growing axis. The executor ensures that they fit. */
export function appended(
  builder: StableHloBuilder,
  old: Plain,
  entries: Plain,
  axis: number,
  lengths: Plain,
  isBatched: boolean,
): Plain {
  const rows = isBatched ? old.dims[0]! : 1;
  const flat = builder.reshape(lengths, [rows]);
  let value = old;
  for (let row = 0; row < rows; row++) {
    const length = builder.reshape(builder.slice(flat, 0, row, row + 1), []);
    const zero = builder.splat(0, 'i64');
    const starts = old.dims.map((_, i) =>
      i === axis ? length : i === 0 && isBatched ? builder.splat(row, 'i64') : zero,
    );
    const own = isBatched ? builder.slice(entries, 0, row, row + 1) : entries;
    value = builder.updateAt(value, own, starts);
  }
  return value;
}
