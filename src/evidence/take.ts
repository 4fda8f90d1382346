/** Takes findings over that another machine made. */
import type { Finding, Findings } from './finding.js';
import { askedFor, type Work } from './work.js';

/** What became of findings: taken, of settings or tasks that no work has any more, or here already, measured no earlier. */
export interface Taken {
  readonly taken: number;
  readonly outdated: number;
  readonly known: number;
}

/** Adds those findings of `others` that one of the works asks for, unless one of the same settings is here that was measured no earlier. */
export async function takeFindings(
  findings: Findings,
  others: readonly Finding[],
  works: readonly Work[],
): Promise<Taken> {
  const asked = askedFor(works, others);
  const newest = new Map<string, Finding>();
  for (const finding of asked) {
    const before = newest.get(finding.key) ?? findings.found(finding);
    if (!before || before.at < finding.at) newest.set(finding.key, finding);
  }
  await findings.add(...newest.values());
  return {
    taken: newest.size,
    outdated: others.length - asked.length,
    known: asked.length - newest.size,
  };
}
