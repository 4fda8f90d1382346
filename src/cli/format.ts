/** Formats numbers with units. */

/** 1536 -> '1.5 kB' */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : significant(value)} ${units[unit]}`;
}

/** 7613378 -> '7.61M' */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${significant(count / 1e9)}B`;
  if (count >= 1e6) return `${significant(count / 1e6)}M`;
  return count >= 10_000 ? `${significant(count / 1e3)}k` : String(Math.round(count));
}

/** 3725 -> '1 h 02 min' */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')} min`;
}

/** A rate per second. */
export function formatRate(perSecond: number, unit = 'tokens'): string {
  return `${perSecond >= 100 ? Math.round(perSecond).toLocaleString('en') : significant(perSecond)} ${unit}/s`;
}

/** Three significant digits. */
function significant(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}

/** A table with the first column aligned left and the others right. */
export function table(rows: readonly (readonly string[])[], left = 1): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) => {
      const cells = row.map((cell, i) => (i < left ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)));
      return `  ${cells.join('  ')}`.trimEnd();
    })
    .join('\n');
}

/** A cell of CSV. */
export function quote(text: string): string {
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
