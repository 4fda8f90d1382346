/** Numbers in columns, and their units. */

/** Lines of equal columns: the first to the left, the others to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('   ')
      .trimEnd();
  return rows.map((row) => `  ${line(row)}`).join('\n');
}

/** 12345.6 -> '12,346'; below a hundred with one digit behind the point. */
export function decimal(value: number): string {
  const digits = value < 100 ? 1 : 0;
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Operations a second, in words. */
export function gigaflops(flops: number): string {
  return `${decimal(flops / 1e9)} GFLOP/s`;
}

/** Bytes, in words. */
export function megabytes(bytes: number): string {
  return `${decimal(bytes / 1e6)} MB`;
}

/** Seconds, in words. */
export function milliseconds(seconds: number): string {
  return `${decimal(seconds * 1000)} ms`;
}

/** A count, in words. */
export function millions(count: number): string {
  return `${decimal(count / 1e6)} M`;
}

/** A share, in words. */
export function percent(share: number): string {
  return `${decimal(100 * share)} %`;
}
