/** The aims: target numbers of the designs, beside the findings. */
import { ACCURACY, scoreText } from '../tasks/index.js';
import type { Finding } from './finding.js';
import { computedOn, grouped, markdownTable, median, partsOf } from './section.js';
import { exponentOf } from './time.js';
import { BASELINE, SCORE } from './trial.js';
import { measureOf, numbersOf, seedsOf, taskTold } from './trial-report.js';

interface Aim {
  readonly of: string;
  /** The heading of the log with the attempts. */
  readonly log: string;
  /** Undefined if there are no findings yet. */
  reached(findings: readonly Finding[]): Reached | undefined;
  readonly target: string;
}

interface Reached {
  readonly told: string;
  readonly isMet: boolean;
  /** The first half of an aim that has two: what it asks for, and whether that is met. */
  readonly first?: { readonly of: string; readonly isMet: boolean };
  /** Reference values: chance level and published results. */
  readonly beside?: string;
}

/** The findings of a trial, one per seed and design. */
function ofTrial(findings: readonly Finding[], trial: string): Finding[] {
  return seedsOf(findings).filter((finding) => partsOf(finding)[1] === trial);
}

/** A score of a trial by design, one number per seed. */
function scoresBy(
  found: readonly Finding[],
  column: string | RegExp,
  designs?: readonly string[],
): Map<string, number[]> {
  const own = [...grouped(found, (finding) => partsOf(finding)[2]!)].filter(
    ([design]) => designs === undefined || designs.includes(design),
  );
  const values = own.map(([design, some]) => {
    const scores = some.flatMap((finding) =>
      numbersOf(finding, SCORE).flatMap(([of, value]) => (isOf(of, column) ? [value] : [])),
    );
    return [design, scores] as const;
  });
  return new Map(values.filter(([, scores]) => scores.length > 0));
}

function isOf(name: string, column: string | RegExp): boolean {
  return typeof column === 'string' ? name === column : column.test(name);
}

/** The design with the best median, of those that were trained with the most seeds: a lucky seed is not a median. */
function bestOf(scores: Map<string, number[]>, better: 'more' | 'less'): [string, number[]] | undefined {
  const sign = better === 'more' ? 1 : -1;
  const most = Math.max(...[...scores.values()].map(({ length }) => length));
  const trained = [...scores].filter(([, { length }]) => length === most);
  return trained.sort(([, a], [, b]) => sign * (median(b) - median(a)))[0];
}

/** Chance level and published result of a trial's task. */
function besideOf([finding]: readonly Finding[]): string {
  const task = finding && taskTold(finding);
  if (!task) return '';
  const { chance, reference, measure } = task;
  return [
    ...(chance === undefined ? [] : [`guessing ${scoreText(measure, chance)}`]),
    ...(reference ? [`published ${scoreText(measure, reference.score)} (${reference.of})`] : []),
  ].join('; ');
}

function percent(share: number): string {
  return scoreText(ACCURACY, share);
}

/** Formats a share; one that misses `least` by less than a tenth of a percent gets one more digit. */
function percentBeside(share: number, least = 0): string {
  const told = percent(share);
  return share < least && told === percent(least) ? `${(100 * share).toFixed(2)} %` : told;
}

function seedsTold(count: number): string {
  return count === 1 ? 'one seed' : `${count} seeds`;
}

/** The target of a number that is reported without a target. */
const NONE = 'none';

interface Accuracy {
  readonly of: string;
  readonly log: string;
  readonly trial: string;
  /** The score that counts. */
  readonly column: string | RegExp;
  /** Without it, the number is reported without a target. */
  readonly least?: number;
  /** The designs that count; default: all. */
  readonly designs?: readonly string[];
  /** The least score of the worst seed. */
  readonly worst?: number;
}

/** The aim that the best design's median over seeds is at least `least`. */
function accuracy({ of, log, trial, column, least, designs, worst }: Accuracy): Aim {
  return {
    ...{ of, log },
    target:
      least === undefined
        ? NONE
        : `${percent(least)}${worst === undefined ? '' : `; ${percent(worst)} in the worst seed`}`,
    reached(findings) {
      const found = ofTrial(findings, trial);
      const best = bestOf(scoresBy(found, column, designs), 'more');
      if (!best) return undefined;
      const [design, scores] = best;
      const low = Math.min(...scores);
      return {
        told: `${percentBeside(median(scores), least)}, worst ${percentBeside(low, least)} (\`${design}\`, ${seedsTold(scores.length)})`,
        isMet: median(scores) >= (least ?? 0) && low >= (worst ?? 0),
        beside: besideOf(found),
      };
    },
  };
}

const HYBRIDS = ['hybrid-selective', 'hybrid-full'];

/** The aim that the better hybrid is not worse than the transformer of its size. */
function notBehind(of: string, log: string, trial: string, column: string): Aim {
  return {
    ...{ of, log, target: 'hybrid not behind the transformer' },
    reached(findings) {
      const found = ofTrial(findings, trial);
      const hybrid = bestOf(scoresBy(found, column, HYBRIDS), 'more');
      const transformer = scoresBy(found, column, ['transformer']).get('transformer');
      if (!hybrid || !transformer) return undefined;
      const [name, scores] = hybrid;
      return {
        told: `${percent(median(scores))} (\`${name}\`), transformer ${percent(median(transformer))} (${seedsTold(scores.length)})`,
        isMet: median(scores) >= median(transformer),
        beside: besideOf(found),
      };
    },
  };
}

/** Two linear maps fitted with different penalties differ by up to about this share, so a smaller gain is not significant. */
const LEVEL = 0.02;

/** The simple methods that a forecast has to be better than in any case. */
const SIMPLE = /^(seasonal naive|linear|linear over \d+)$/;

/**
 * The aim that the best design's error is below that of seasonal naive and linear, and the stricter one that it is clearly below that of each simple method. One of
 * these is the linear map that the design begins with, which is fitted without training, so that what is counted is what the layers add.
 */
function forecast(of: string, trial: string): Aim {
  return {
    ...{
      of,
      log: 'series',
      target:
        'below seasonal naive and linear; stricter: more than 2 % below each simple method and the linear map that it begins with',
    },
    reached(findings) {
      const found = ofTrial(findings, trial);
      const best = bestOf(scoresBy(found, /./), 'less');
      if (!best) return undefined;
      const measure = measureOf(taskTold(found[0]!));
      const beside = numbersOf(found[0]!, BASELINE);
      const [design, scores] = best;
      const [strongest, least] = beside.reduce((one, other) => (other[1] < one[1] ? other : one));
      const share = median(scores) / least;
      const simple = beside.filter(([name]) => SIMPLE.test(name));
      const compared = `${Math.abs(100 * (1 - share)).toFixed(1)} % ${share < 1 ? 'less' : 'more'} than ${strongest}`;
      return {
        told: `${scoreText(measure, median(scores))} (\`${design}\`, ${seedsTold(scores.length)}), ${compared}`,
        isMet: share < 1 - LEVEL,
        first: {
          of: `below ${simple.map(([name]) => name).join(' and ')}`,
          isMet: simple.every(([, value]) => median(scores) < value),
        },
        beside: beside.map(([name, value]) => `${name} ${scoreText(measure, value)}`).join('; '),
      };
    },
  };
}

const LENGTH = 65_536;

const memoryAim: Aim = {
  of: `memory of one sequence of ${LENGTH.toLocaleString('en')} tokens, selective hybrid`,
  log: 'not-measured',
  target: '10 times less than the transformer',
  reached(findings) {
    const [own, others] = ['hybrid-selective', 'transformer'].map(
      (design) => findings.find(({ key }) => key === `memory/${design}/state`)?.numbers[`bytes at ${LENGTH}`],
    );
    if (own === undefined || others === undefined) return undefined;
    return { told: `${(others / own).toFixed(1)} times less`, isMet: others >= 10 * own };
  },
};

const exponentAim: Aim = {
  of: 'exponent of reading over the length, selective hybrid',
  log: 'not-measured',
  target: '1.1 at most',
  reached(findings) {
    const reads = findings.filter(
      ({ key, numbers }) => key.startsWith('time/hybrid-selective/') && numbers.seconds !== undefined,
    );
    const exponents = [...grouped(reads, computedOn)].map(
      ([machine, own]) => [machine, exponentOf(own)] as const,
    );
    const known = exponents.filter(([, exponent]) => exponent !== '-');
    if (known.length === 0) return undefined;
    return {
      told: known.map(([machine, exponent]) => `${exponent} on ${machine}`).join('; '),
      isMet: known.every(([, exponent]) => Number(exponent) <= 1.1),
    };
  },
};

const SELECTIVE = ['MS', 'M-S-', 'hybrid-selective'];

/** What the project set out to show, each with the findings that decide whether it is met. */
export const AIMS: readonly Aim[] = [
  accuracy({
    of: '64 pairs in 512 tokens (`mqar-64`), 128 places',
    ...{ log: 'recall-of-64-pairs-among-8192-tokens', trial: 'mqar-64', column: '512 tokens' },
    ...{ designs: SELECTIVE, least: 0.99, worst: 0.97 },
  }),
  accuracy({
    of: 'the same with 64 places, as many as pairs',
    ...{ log: 'recall-of-64-pairs-among-8192-tokens', trial: 'mqar-64, as many places' },
    ...{ column: '512 tokens', designs: SELECTIVE },
  }),
  accuracy({
    of: 'induction, learned at 256 tokens, at 65,536',
    ...{ log: 'induction', trial: 'induction', column: '65,536 tokens', least: 0.99 },
  }),
  accuracy({
    of: '16 facts among 1,048,576 tokens, learned at 256, in constant memory',
    ...{ log: 'not-measured', trial: 'facts-16', column: '1,048,576 tokens' },
    ...{ designs: SELECTIVE, least: 0.95 },
  }),
  accuracy({
    of: 'selective copying, 4,096 tokens',
    ...{ log: 'selective-copying', trial: 'selective-copying', column: '4,096 tokens', least: 0.99 },
  }),
  notBehind('ListOps, 256 tokens', 'not-measured', 'listops', '256 tokens'),
  notBehind('inference in 1 to 4 steps, said at once', 'inference', 'inference', '96 tokens'),
  notBehind('the same with written steps', 'inference', 'inference-steps', '96 tokens'),
  accuracy({
    of: 'S5 at 64 tokens, all permutations',
    ...{ log: 's5', trial: 's5', column: '64 tokens', least: 0.99 },
  }),
  accuracy({
    of: 'S5 at 64 tokens, by swaps',
    ...{ log: 's5', trial: 's5-swaps', column: '64 tokens', least: 0.99 },
  }),
  memoryAim,
  exponentAim,
  accuracy({
    of: 'mnist (10,000 digits) as images',
    ...{ log: 'images', trial: 'mnist', column: /images/, least: 0.985 },
  }),
  accuracy({
    of: 'mnist pixel by pixel',
    ...{ log: 'images', trial: 'mnist-pixels', column: /images/, least: 0.97 },
  }),
  accuracy({
    of: 'fashion-mnist as images',
    ...{ log: 'images', trial: 'fashion-mnist', column: /images/, least: 0.93 },
  }),
  forecast('births, 28 days, with their dates', 'births'),
  forecast('weather, 24 days', 'weather'),
  forecast('temperature, 24 hours, read over 552', 'temperature-24'),
  forecast('temperature, 96 hours, read over 552', 'temperature-96'),
  forecast('temperature, 336 hours, read over 552', 'temperature-336'),
  forecast('carbon dioxide, 24 months', 'co2'),
  forecast('prices, 24 days', 'prices'),
  accuracy({
    of: 'spoken digits, voices that were not learned from',
    ...{ log: 'speech', trial: 'spoken-digits', column: /voices/, least: 0.97 },
  }),
];

/** The table: each aim, what it asks for, what was found, and what that is to be seen beside. */
export function aimsTable(findings: readonly Finding[]): string {
  const rows = AIMS.map(({ of, log, target, reached }) => {
    const found = reached(findings);
    const tried = `[what was tried](log.md#${log})`;
    if (!found) return [of, target, 'not measured', '', `not yet (${tried})`];
    const said = (isMet: boolean): string => (isMet ? 'yes' : '**no**');
    const whole = `${said(found.isMet)}${found.isMet ? '' : ` (${tried})`}`;
    const { first } = found;
    const verdict =
      target === NONE ? '' : first ? `${first.of}: ${said(first.isMet)}; stricter: ${whole}` : whole;
    return [of, target, found.told, found.beside ?? '', verdict];
  });
  return markdownTable([['aim', 'target', 'found', 'beside', 'met'], ...rows]);
}
