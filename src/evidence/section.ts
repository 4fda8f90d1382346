/** A section of the evidence: its work and its report. */

import type { Plot } from '../bench/plot.js';
import type { Finding } from './finding.js';
import type { Work } from './work.js';

/** Selects the full or the quick set of work. */
export interface Scope {
  /** Selects a smaller set, for two cores and some minutes. */
  readonly quick: boolean;
}

/** A section of the page: the work that produces its findings, and the report on them. */
export interface Section {
  /** The prefix of its findings' keys. */
  readonly name: string;
  readonly title: string;
  works(scope: Scope): Work[];
  /** The report on the findings; undefined if there are none. */
  report(findings: readonly Finding[]): Report | undefined;
}

/** The text and plots of a section. */
export interface Report {
  /** Markdown, without the title. */
  readonly text: string;
  readonly plots?: readonly Plot[];
}

/** The parts of a finding's key. */
export function partsOf({ key }: Pick<Finding, 'key'>): string[] {
  return key.split('/');
}

/** Formats a Markdown table; the first row is its head. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows.map((row) => `| ${row.join(' | ')} |`);
  return [head, `|${' --- |'.repeat(rows[0]!.length)}`, ...body].join('\n');
}

/** Groups findings by the value of `of`, in order of appearance. */
export function grouped<T>(findings: readonly T[], of: (finding: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const finding of findings) {
    const name = of(finding);
    groups.set(name, [...(groups.get(name) ?? []), finding]);
  }
  return groups;
}

/** The median; of two middle values, their mean. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The hardware of a finding, for a table: `NVIDIA H200`, `AMD EPYC, 2 cores`. */
export function computedOn({ machine, device }: Finding): string {
  const { cpu, cores, gpu } = machine;
  return gpu && (device === 'cuda' || device === 'webgpu') ? gpu : `${cpu}, ${cores} cores`;
}
