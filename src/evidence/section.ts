/** A section of the evidence: what is to be found out, and how it is told. */
import type { Finding } from './finding.js';
import type { Plot } from './plot.js';
import type { Work } from './work.js';

/** Which set of work is meant. */
export interface Scope {
  /** A smaller set of the same, for two cores and some minutes. */
  readonly quick: boolean;
}

/** A part of the page: the work that finds its numbers, and what they say. */
export interface Section {
  /** What the keys of its findings begin with. */
  readonly name: string;
  readonly title: string;
  works(scope: Scope): Work[];
  /** What the findings say; nothing where there are none. */
  report(findings: readonly Finding[]): Report | undefined;
}

/** What a section says. */
export interface Report {
  /** Markdown, without the title. */
  readonly text: string;
  readonly plots?: readonly Plot[];
}

/** The parts of a finding's key. */
export function partsOf({ key }: Pick<Finding, 'key'>): string[] {
  return key.split('/');
}

/** A table in Markdown; the first row is its head. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows.map((row) => `| ${row.join(' | ')} |`);
  return [head, `|${' --- |'.repeat(rows[0]!.length)}`, ...body].join('\n');
}

/** Findings by what `of` says of each, in the order of their keys. */
export function grouped<T>(findings: readonly T[], of: (finding: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const finding of findings) {
    const name = of(finding);
    groups.set(name, [...(groups.get(name) ?? []), finding]);
  }
  return groups;
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** What computed a finding, for a table: `NVIDIA H200`, `AMD EPYC, 2 cores`. */
export function computedOn({ machine, device }: Finding): string {
  const { cpu, cores, gpu } = machine;
  return gpu && (device === 'cuda' || device === 'webgpu') ? gpu : `${cpu}, ${cores} cores`;
}
