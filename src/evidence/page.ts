/**
 * Writes the page with the report and plots of each section. Findings with settings that are not used today stay in the file but are not
 * reported; findings that no work produces any more, such as those of removed tasks, are deleted.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { plotSvg } from '../bench/plot.js';
import { writeFileAtomic } from '../checkpoint/index.js';
import { aimsTable } from './aims.js';
import type { Finding, Findings } from './finding.js';
import { computedOn, grouped, type Section } from './section.js';
import { askedFor, keysOf } from './work.js';

/** Selects the findings of the page. */
export interface PageOptions {
  readonly quick: boolean;
}

/** Writes README.md and the plots into the folder of the findings, and deletes findings that no work produces. */
export async function writePage(
  folder: string,
  findings: Findings,
  sections: readonly Section[],
  { quick }: PageOptions,
): Promise<void> {
  const [works, others] = [quick, !quick].map((own) =>
    sections.flatMap((section) => section.works({ quick: own })),
  );
  await findings.keepOnly(keysOf([...works!, ...others!]));
  const told = askedFor(works!, findings.all);
  const hasLog = existsSync(join(folder, 'log.md'));
  const parts: string[] = [];
  for (const [i, section] of sections.entries()) {
    const own = told.filter(({ key }) => key.startsWith(`${section.name}/`));
    const report = section.report(own);
    const lines = [`## ${i + 1}. ${section.title}`];
    if (report) {
      for (const plot of report.plots ?? []) {
        if (plot.points.length === 0) continue;
        await writeFileAtomic(join(folder, `${plot.name}.svg`), await plotSvg(plot));
        lines.push(`![${plot.title}](${plot.name}.svg)`);
      }
      lines.push(report.text);
    } else lines.push(`Nothing was measured yet${hasLog ? ' ([why](log.md#not-measured))' : ''}.`);
    parts.push(lines.join('\n\n'));
  }
  const command = `heddle evidence${quick ? ' --quick' : ''}`;
  const intro = [
    '# Evidence',
    `What hybrids of state-space layers and attention cost, and what they can do, beside a transformer, a state-space model and a hybrid with full attention of the same size. \`${command}\` measures what is missing, and writes this page from [findings.json](findings.json), where every number stands with its command, seed, version and machine.${hasLog ? ' [What failed](log.md) is written down, too.' : ''}`,
    madeOn(told),
    ...(quick ? [] : [`## What was aimed at\n\n${aimsTable(told)}`]),
  ];
  await writeFileAtomic(join(folder, 'README.md'), `${[...intro, ...parts].filter(Boolean).join('\n\n')}\n`);
}

function madeOn(findings: readonly Finding[]): string {
  if (findings.length === 0) return '';
  const machines = [...grouped(findings, computedOn)].map(([name, own]) => `${own.length} on ${name}`);
  const versions = [...new Set(findings.map(({ version }) => version))];
  return `There are ${findings.length} findings: ${machines.join(', ')}; Heddle ${versions.join(', ')}.`;
}
