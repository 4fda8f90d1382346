/** Tables of trials: a row per design, with the spread over its seeds. */
import { ACCURACY, type Measure, scoreText, TASKS, type Task } from '../tasks/index.js';
import type { Finding } from './finding.js';
import { computedOn, grouped, markdownTable, median, partsOf, type Report } from './section.js';
import { ANSWERS, BASELINE, DIVERGED, SCORE, taskTested } from './trial.js';

/** A table per task, and one plot of the first score of each design. */
export function trialReport(section: string, findings: readonly Finding[]): Report | undefined {
  const seeds = seedsOf(findings);
  if (seeds.length === 0) return undefined;
  const tables = [...grouped(seeds, (finding) => partsOf(finding)[1]!)].map(([name, own]) =>
    trialTable(name, own),
  );
  return {
    text: tables.join('\n\n'),
    plots: [
      {
        name: section,
        title: 'Score by task and design, a mark a seed',
        x: { title: 'task' },
        y: { title: 'score' },
        points: seeds.flatMap((finding) => {
          const [first] = numbersOf(finding, SCORE);
          // Only accuracies share a scale.
          if (!first || measureOf(taskTold(finding)).name !== 'accuracy') return [];
          return [{ series: partsOf(finding)[2]!, x: partsOf(finding)[1]!, y: first[1] }];
        }),
      },
    ],
  };
}

/** The findings of complete trainings, without those that select a rate. */
export function seedsOf(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ key }) => /\/seed \d+$/.test(key));
}

/** The task of the last stage, if it still exists. */
export function taskTold({ settings }: Finding): Task | undefined {
  const name = taskTested(String(settings.stages));
  return TASKS.find((task) => task.name === name);
}

/** The measure of a task; scores of a removed task are reported as accuracy. */
export function measureOf(task: Task | undefined): Measure {
  return task?.measure ?? ACCURACY;
}

/** The numbers of a finding whose names start with the prefix `kind`, with the prefix removed. */
export function numbersOf({ numbers }: Finding, kind: string): [string, number][] {
  return Object.entries(numbers)
    .filter(([name]) => name.startsWith(kind))
    .map(([name, value]) => [name.slice(kind.length), value]);
}

/** The names of all scores, in order of appearance. */
export function scoresOf(findings: readonly Finding[]): string[] {
  return [...new Set(findings.flatMap((finding) => numbersOf(finding, SCORE).map(([of]) => of)))];
}

/** The median over seeds, with minimum and maximum: `98.8 % (97.0 % to 99.1 %)`. */
export function spread(values: readonly number[], shown: (value: number) => string): string {
  if (values.length === 0) return '-';
  if (values.length === 1) return shown(values[0]!);
  return `${shown(median(values))} (${shown(Math.min(...values))} to ${shown(Math.max(...values))})`;
}

/** The number of seeds, and of those that diverged. */
export function seedCount(findings: readonly Finding[]): string {
  const diverged = findings.filter(({ numbers }) => numbers[DIVERGED] === 1).length;
  return diverged === 0 ? String(findings.length) : `${findings.length}, of which ${diverged} diverged`;
}

/** The training settings: `Trained as ... on ...`, or each variant with its designs. */
export function trainedAs(
  findings: readonly Finding[],
  of = (finding: Finding) => partsOf(finding)[2]!,
): string {
  const ways = grouped(findings, (finding) => {
    const { stages, set } = finding.settings;
    return `\`${stages}\`${set ? ` with \`${set}\`` : ''} on ${computedOn(finding)}`;
  });
  const told = [...ways].map(([way, own]) => {
    const names = [...new Set(own.map(of))];
    return ways.size === 1 ? way : `${names.join(', ')} as ${way}`;
  });
  return ways.size === 1 ? `Trained as ${told[0]}.` : `Trained: ${told.join('; ')}.`;
}

function trialTable(name: string, findings: readonly Finding[]): string {
  const task = taskTold(findings[0]!);
  const measure = measureOf(task);
  const shown = (value: number): string => scoreText(measure, value);
  const columns = scoresOf(findings);
  const valuesOf = (some: readonly Finding[], name: string): number[] =>
    some.flatMap(({ numbers }) => numbers[name] ?? []);
  const rows = [...grouped(findings, (finding) => partsOf(finding)[2]!)].map(([design, own]) => [
    design,
    own
      .flatMap(({ numbers }) => numbers.parameters ?? [])
      .map((count) => `${(count / 1e6).toFixed(2)}M`)[0] ?? '-',
    [...new Set(own.map(({ settings }) => settings.rate))].join(', '),
    ...columns.map((column) => spread(valuesOf(own, SCORE + column), shown)),
    seedCount(own),
  ]);
  const heads = columns.map((column) => {
    const answers = [...new Set(valuesOf(findings, ANSWERS + column))];
    return answers.length === 0 ? column : `${column}: ${answers.map(whole).join(' or ')} answers`;
  });
  const beside = task && [
    ...(task.chance === undefined ? [] : [`guessing reaches ${shown(task.chance)}`]),
    ...numbersOf(findings[0]!, BASELINE).map(([of, value]) => `${of} ${shown(value)}`),
    ...(task.reference ? [`published: ${shown(task.reference.score)} (${task.reference.of})`] : []),
  ];
  const said = task
    ? `${task.about} (${task.source}). ${[`${measure.name}, ${measure.better} is better`, ...beside!].join('; ')}.`
    : 'a task of another version.';
  const counted = heads.some((head, i) => head !== columns[i]);
  return [
    `**${name}**: ${said} ${trainedAs(findings)}${counted ? ' Answers are counted a seed.' : ''}`,
    markdownTable([['design', 'parameters', 'rate', ...heads, 'seeds'], ...rows]),
  ].join('\n\n');
}

function whole(value: number): string {
  return value.toLocaleString('en');
}
