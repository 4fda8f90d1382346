/** The value below which a share of values lies: of two in the middle the upper one. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}

/** What stands for tokens whose gaps these are, in the order of their rounds. */
export interface Evenness {
  /** Milliseconds. */
  readonly median: number;
  readonly late: number;
}

/** The middle gap between tokens, and the one that a hundredth of them exceeds. */
export function evennessOf(gaps: readonly number[]): Evenness {
  return { median: quantile(gaps, 0.5), late: quantile(gaps, 0.99) };
}
