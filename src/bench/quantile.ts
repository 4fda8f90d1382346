/** A quantile; between two values, the upper one. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}

/** The distribution of the gaps between tokens. */
export interface Evenness {
  /** Milliseconds. */
  readonly median: number;
  readonly p99: number;
}

/** The median and the 99th percentile of gaps in milliseconds. */
export function evennessOf(gaps: readonly number[]): Evenness {
  return { median: quantile(gaps, 0.5), p99: quantile(gaps, 0.99) };
}
