/** Text tables, and numbers with units. */

/** Formats rows in aligned columns: the first left-aligned, the others right-aligned. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('   ')
      .trimEnd();
  return rows.map((row) => `  ${line(row)}`).join('\n');
}

/** 12345.6 -> '12,346'; numbers below 100 get one decimal. */
export function decimal(value: number): string {
  const digits = value < 100 ? 1 : 0;
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Formats a rate of operations per second. */
export function gigaflops(flops: number): string {
  return `${decimal(flops / 1e9)} GFLOP/s`;
}

/** Formats bytes. */
export function megabytes(bytes: number): string {
  return `${decimal(bytes / 1e6)} MB`;
}

/** Formats seconds as milliseconds. */
export function milliseconds(seconds: number): string {
  return `${decimal(seconds * 1000)} ms`;
}

/** Formats a count in millions. */
export function millions(count: number): string {
  return `${decimal(count / 1e6)} M`;
}

/** Formats a share as a percentage. */
export function percent(share: number): string {
  return `${decimal(100 * share)} %`;
}
