/** What trials say, as tables: a row a design, with the spread over its seeds. */
import { scoreText, type Task, taskOf } from '../tasks/index.js';
import type { Finding } from './finding.js';
import { computedOn, grouped, markdownTable, median, partsOf, type Report } from './section.js';
import { BASELINE, SCORE } from './trial.js';

/** A table a task, and one plot of the first score of each design. */
export function trialReport(section: string, findings: readonly Finding[]): Report | undefined {
  const seeds = findings.filter(({ key }) => / ?seed \d+$/.test(key));
  if (seeds.length === 0) return undefined;
  const tables = [...grouped(seeds, (finding) => partsOf(finding)[1]!)].map(([name, own]) =>
    trialTable(name, own),
  );
  // Only shares go on one scale.
  const shares = seeds.filter((finding) => taskTold(finding).measure.name === 'accuracy');
  return {
    text: tables.join('\n\n'),
    plots: [
      {
        name: section,
        title: 'Score by task and design, a mark a seed',
        x: { title: 'task' },
        y: { title: 'score' },
        points: shares.map((finding) => ({
          series: partsOf(finding)[2]!,
          x: partsOf(finding)[1]!,
          y: scoresOf(finding)[0]![1],
        })),
      },
    ],
  };
}

/** The task of the last stage. */
function taskTold({ settings }: Finding): Task {
  const last = String(settings.stages).split(', ').at(-1)!;
  return taskOf(/^[^@:]+/.exec(last)![0]);
}

function scoresOf({ numbers }: Finding, kind = SCORE): [string, number][] {
  return Object.entries(numbers)
    .filter(([name]) => name.startsWith(kind))
    .map(([name, value]) => [name.slice(kind.length), value]);
}

function trialTable(name: string, findings: readonly Finding[]): string {
  const task = taskTold(findings[0]!);
  const { chance, reference, measure } = task;
  const shown = (value: number): string => scoreText(measure, value);
  const columns = [...new Set(findings.flatMap((finding) => scoresOf(finding).map(([of]) => of)))];
  const rows = [...grouped(findings, (finding) => partsOf(finding)[2]!)].map(([design, own]) => [
    design,
    `${(own[0]!.numbers.parameters! / 1e6).toFixed(2)}M`,
    String(own[0]!.settings.rate),
    ...columns.map((column) => {
      const values = own.flatMap((finding) => finding.numbers[SCORE + column] ?? []);
      if (values.length === 0) return '-';
      if (values.length === 1) return shown(values[0]!);
      return `${shown(median(values))} (${shown(Math.min(...values))} to ${shown(Math.max(...values))})`;
    }),
    String(own.length),
  ]);
  const beside = [
    ...(chance === undefined ? [] : [`guessing reaches ${shown(chance)}`]),
    ...scoresOf(findings[0]!, BASELINE).map(([of, value]) => `${of} ${shown(value)}`),
    ...(reference ? [`published: ${shown(reference.score)} (${reference.of})`] : []),
  ];
  return [
    `**${name}**: ${task.about} (${task.source}). ${measure.name}, ${measure.better} is better; ${beside.join('; ')}. Trained as \`${findings[0]!.settings.stages}\`${findings[0]!.settings.set ? ` with \`${findings[0]!.settings.set}\`` : ''} on ${computedOn(findings[0]!)}.`,
    markdownTable([['design', 'parameters', 'rate', ...columns, 'seeds'], ...rows]),
  ].join('\n\n');
}
