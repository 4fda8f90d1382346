/** Ablations: one choice of the design is changed at a time, on a task that needs recall over a distance. */
import { scoreText } from '../tasks/index.js';
import type { Finding } from './finding.js';
import { grouped, markdownTable, median, partsOf, type Report, type Section } from './section.js';
import type { Keys } from './siblings.js';
import { SCORE, type Stage, type Trial, trialWorks } from './trial.js';
import { measureOf, scoresOf, seedCount, seedsOf, spread, taskTold, trainedAs } from './trial-report.js';

const SECTION = 'design-space';

/** The base of all ablations. */
const BASE = {
  pattern: 'M-M-M-M-S-',
  set: {
    ...{ attention_selected: 16, attention_window: 16 },
    ...{ attention_score: 'convolution', attention_scores_window: true },
  } as Keys,
};

/** A change of the base. */
interface Choice {
  readonly axis: string;
  readonly pattern?: string;
  readonly set?: Keys;
  /** Training stages whose steps add up to `steps`. */
  readonly strategy?: { readonly name: string; readonly stages: (steps: number, batch: number) => Stage[] };
}

const TASK = { task: 'facts-8', length: 128 };
/** The stage with `quick`, whose few steps need not suffice to learn the task. */
const QUICK: Stage = { task: 'parity-steps', length: 24, steps: 40, batch: 16 };

/** Letters of layers with other state matrices, which docs/designs.md describes. */
const MATRICES = ['m', 'N', 'G', 'K', 'D', 'V', 'R', 'I', 'C', 'L'];

const CHOICES: readonly Choice[] = [
  { axis: 'base' },
  { axis: 'ratio', pattern: 'M-S-' },
  { axis: 'ratio', pattern: 'M-M-S-M-M-S-' },
  { axis: 'place', pattern: 'S-M-M-M-M-' },
  { axis: 'place', pattern: 'M-M-S-M-M-' },
  ...[8, 32, 64].map((places) => ({ axis: 'places', set: { attention_selected: places } })),
  ...[2, 64].map((window) => ({ axis: 'window', set: { attention_window: window } })),
  { axis: 'score', set: { attention_score: 'linear' } },
  { axis: 'score', set: { attention_scores_window: false } },
  ...[4, 64].map((size) => ({ axis: 'state size', set: { ssm_state_size: size } })),
  ...MATRICES.map((letter) => ({ axis: 'state matrix', pattern: `${`${letter}-`.repeat(4)}S-` })),
  beginning('short texts first', (batch) => ({ length: 64, batch: 2 * batch })),
  beginning('recurrences first, attention held', () => ({ factors: { 'layer:S': 0 } })),
  beginning('attention first, recurrences held', () => ({ factors: { 'layer:M': 0 } })),
  {
    axis: 'training',
    strategy: { name: 'Muon', stages: (steps, batch) => [{ ...TASK, steps, batch, optimizer: 'muon' }] },
  },
];

/** Formats the keys of a config. */
function told(set: Keys): string[] {
  return Object.entries(set).map(([key, value]) => `${key.replaceAll('_', ' ')} ${value}`);
}

/** A choice whose first third of the training differs. */
function beginning(name: string, first: (batch: number) => Partial<Stage>): Choice {
  const stages = (steps: number, batch: number): Stage[] => {
    const third = Math.round(steps / 3);
    return [
      { ...TASK, steps: third, batch, ...first(batch) },
      { ...TASK, steps: steps - third, batch },
    ];
  };
  return { axis: 'training', strategy: { name, stages } };
}

function trialOf({ axis, pattern, set, strategy }: Choice, quick: boolean): Trial {
  const [steps, batch] = [1500, 128];
  const changed = told(set ?? {});
  return {
    section: SECTION,
    name: [axis, ...changed, ...(strategy ? [strategy.name] : [])].join(', '),
    stages: quick ? [QUICK] : strategy ? strategy.stages(steps, batch) : [{ ...TASK, steps, batch }],
    size: 'nano',
    designs: [pattern ?? BASE.pattern],
    set: { ...BASE.set, ...set },
    rates: [3e-3],
    seeds: quick ? [1] : [1, 2],
    ...(quick ? { count: 16, longest: 40 } : { count: 64, longest: 1024 }),
  };
}

/** The effect of each choice of a hybrid's design on what it learns. */
export const designSpace: Section = {
  name: SECTION,
  title: 'The design space',
  works: ({ quick }) =>
    CHOICES.filter(({ axis }) => !quick || axis === 'base' || axis === 'place').flatMap((choice) =>
      trialWorks(trialOf(choice, quick)),
    ),
  report,
};

/** A table with the score of each choice, and its difference from the base. */
function report(findings: readonly Finding[]): Report | undefined {
  const seeds = seedsOf(findings);
  if (seeds.length === 0) return undefined;
  const task = taskTold(seeds[0]!);
  const measure = measureOf(task);
  const columns = scoresOf(seeds);
  const groups = grouped(seeds, (finding) => partsOf(finding).slice(1, 3).join(': '));
  const isBase = (name: string): boolean => name.startsWith('base: ');
  const ordered = [...groups].sort(([a], [b]) => Number(isBase(b)) - Number(isBase(a)));
  const valuesOf = (some: readonly Finding[], column: string): number[] =>
    some.flatMap(({ numbers }) => numbers[SCORE + column] ?? []);
  const [base] = ordered.filter(([name]) => isBase(name)).map(([, own]) => own);
  const rows = ordered.map(([name, own]) => [
    name,
    ...columns.flatMap((column) => {
      const values = valuesOf(own, column);
      const before = base && own !== base ? valuesOf(base, column) : [];
      const apart = values.length > 0 && before.length > 0 ? median(values) - median(before) : undefined;
      return [
        spread(values, (value) => scoreText(measure, value)),
        apart === undefined ? '' : `${apart < 0 ? '-' : '+'}${scoreText(measure, Math.abs(apart))}`,
      ];
    }),
    seedCount(own),
  ]);
  const about = [
    `**${task?.name ?? 'a task of another version'}**${task ? `: ${task.about}` : ''}.`,
    `One choice is changed at a time; beside each score stands how far its median is from the base's, \`${BASE.pattern}\` with ${told(BASE.set).join(', ')}.`,
    'A difference within the spread of the seeds tells nothing.',
    trainedAs(seeds, (finding) => partsOf(finding)[1]!),
  ];
  return {
    text: [
      about.join(' '),
      markdownTable([['choice', ...columns.flatMap((column) => [column, 'to the base']), 'seeds'], ...rows]),
    ].join('\n\n'),
  };
}
