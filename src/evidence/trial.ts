/**
 * Trials: a design is trained on a task. The learning rate with the lowest held-out loss of the first seed is selected, then the design is
 * trained with several seeds and tested. A run that diverges is recorded, and the others continue.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DivergenceError, TrainingError } from '../errors.js';
import { CHECKPOINT, openModel, type Size } from '../models/index.js';
import { type PreparedTask, positionsOf, taskOf } from '../tasks/index.js';
import { ADAMW_DEFAULTS, type Evaluation, MUON_DEFAULTS, TRAINING_DEFAULTS, train } from '../train/index.js';
import type { Finding } from './finding.js';
import { recipeOf } from './recipe.js';
import { type Keys, parametersIn, siblingModel } from './siblings.js';
import type { Bench, Wanted, Work } from './work.js';

/** A stage of the training: steps on the task, or on an easier one before it. */
export interface Stage {
  readonly task: string;
  /** Length of an example; default: the task's. */
  readonly length?: number;
  readonly steps: number;
  readonly batch: number;
  /** Default: AdamW. */
  readonly optimizer?: 'muon';
  /** The decay of the average of the weights that is tested, as in `OptimizerConfig`; by default those of the last step are. */
  readonly average?: number;
  /** Factors of the learning rate by patterns of parameter names, as in `TrainingSettings`. */
  readonly factors?: Readonly<Record<string, number>>;
  /** The accuracy on held-out examples at which the stage ends early. */
  readonly until?: number;
  /** The weights that the stage ends with: `best` are those of its best evaluation on held-out examples. Default: as in `TrainingSettings`. */
  readonly keep?: 'best';
  /** Steps between evaluations of a stage that keeps the best weights. */
  readonly evaluateEvery?: number;
  /** Overrides of the config in this stage, which must not change the shape of a parameter. The last stage has none, since its model is tested. */
  readonly set?: Keys;
}

/** Designs that are trained on the same tasks with the same steps. */
export interface Trial {
  /** The name of its section. */
  readonly section: string;
  /** Its name in tables; default: the task's. */
  readonly name?: string;
  /** The task of the last stage is tested, and determines the vocabulary of the model. */
  readonly stages: readonly Stage[];
  readonly size: Size;
  readonly designs: readonly string[];
  /** Overrides of the config for all designs. */
  readonly set?: Keys;
  readonly rates: readonly number[];
  /** The share of the steps that is trained to select a rate. */
  readonly tuning?: number;
  readonly seeds: readonly number[];
  /** Number of test examples. */
  readonly count: number;
  readonly longest: number;
}

/** Prefix of the names of scores. */
export const SCORE = 'score: ';
/** Prefix of the names of the numbers of tested answers. */
export const ANSWERS = 'answers: ';
/** Prefix of the names of baseline scores. */
export const BASELINE = 'baseline: ';
/** Name of a number, 1, that replaces loss and scores of a diverged run. */
export const DIVERGED = 'diverged';

/** The name of a trial in tables. */
function trialName({ name, stages }: Trial): string {
  return name ?? stages.at(-1)!.task;
}

/** A unit of work for each design. */
export function trialWorks(trial: Trial): Work[] {
  return trial.designs.map((design) => ({
    name: `${trial.section}/${trialName(trial)}/${design}`,
    asks() {
      const { tuned, tested } = wantedOf(trial, design);
      return [...tuned, ...tested].flatMap(([, wanted]) => wanted);
    },
    run: (bench) => runTrial(trial, design, bench),
  }));
}

/** The findings of a trial for each rate: the selection, if there are several rates, and one per seed. */
function wantedOf(trial: Trial, design: string) {
  const { rates, seeds, tuning = TUNING } = trial;
  const settings = settingsOf(trial, design);
  const tuned = rates.map((rate): [number, Wanted] => [
    rate,
    { of: `rate ${rate}`, settings: { ...settings, rate, tuning }, seed: seeds[0]! },
  ]);
  const tested = rates.map((rate): [number, Wanted[]] => [
    rate,
    seeds.map((seed) => ({ of: `seed ${seed}`, settings: { ...settings, rate }, seed })),
  ]);
  return { tuned: rates.length > 1 ? tuned : [], tested };
}

const TUNING = 0.3;
/** Steps between evaluations of a stage that ends when its task is learned, or with its best weights. */
const EVALUATE_EVERY = 40;

async function runTrial(trial: Trial, design: string, bench: Bench): Promise<void> {
  const { rates, tuning = TUNING } = trial;
  const { tuned, tested } = wantedOf(trial, design);
  const prepare = onceEach();
  const find = (wanted: Wanted, rate: number, share?: number) =>
    bench.finding(wanted, () => trained({ trial, design, bench, prepare, rate, seed: wanted.seed!, share }));
  let [chosen, best] = [rates[0]!, Number.POSITIVE_INFINITY];
  for (const [rate, wanted] of tuned) {
    const { loss = Number.POSITIVE_INFINITY } = await find(wanted, rate, tuning);
    if (loss < best) [chosen, best] = [rate, loss];
  }
  if (tuned.length > 0 && best === Number.POSITIVE_INFINITY)
    throw new TrainingError(`${design} diverges at each of the rates ${rates.join(', ')}: try lower ones`);
  for (const [rate, seeds] of tested)
    if (rate === chosen) for (const wanted of seeds) await find(wanted, rate);
}

function settingsOf({ stages, size, set, count, longest }: Trial, design: string): Finding['settings'] {
  return {
    design,
    size,
    stages: stages.map(stageText).join(', '),
    recipe: recipeOf(design, size, set),
    ...(set && { set: JSON.stringify(set) }),
    count,
    longest,
  };
}

function stageText({
  task,
  length,
  steps,
  batch,
  optimizer,
  average,
  factors,
  until,
  keep,
  evaluateEvery,
  set,
}: Stage): string {
  return [
    `${task}${length ? `@${length}` : ''}: ${steps} x ${batch}`,
    ...(until === undefined ? [] : [`until ${until}`]),
    ...(keep ? [evaluateEvery ? `the ${keep} of every ${evaluateEvery} steps` : `${keep} kept`] : []),
    ...(optimizer ? [optimizer] : []),
    ...(average === undefined ? [] : [`averaged by ${average}`]),
    ...Object.entries(factors ?? {}).map(([pattern, factor]) => `${pattern} x ${factor}`),
    ...Object.entries(set ?? {}).map(([key, value]) => `${key} ${value}`),
  ].join(' ');
}

/** The task of the last stage in `settings.stages`. */
export function taskTested(stages: string): string {
  return /^[^@:]+/.exec(stages.split(', ').at(-1)!)![0];
}

/** Caches prepared tasks, since some are synthesized speech or read from many files. */
function onceEach(): (stage: Pick<Stage, 'task' | 'length'>) => Promise<PreparedTask> {
  const made = new Map<string, Promise<PreparedTask>>();
  return ({ task, length }) => {
    const key = `${task}@${length}`;
    if (!made.has(key)) made.set(key, taskOf(task).prepare(length));
    return made.get(key)!;
  };
}

interface Training {
  readonly trial: Trial;
  readonly design: string;
  readonly bench: Bench;
  readonly prepare: ReturnType<typeof onceEach>;
  readonly rate: number;
  readonly seed: number;
  /** The share of the steps to train; undefined trains all steps and tests the model. */
  readonly share: number | undefined;
}

async function trained({
  trial,
  design,
  bench,
  prepare,
  rate,
  seed,
  share,
}: Training): Promise<Finding['numbers']> {
  const { device } = bench;
  const folder = await mkdtemp(join(tmpdir(), 'heddle-trial-'));
  try {
    let last: Evaluation | undefined;
    let from: string | undefined;
    let tokens = 0;
    const tested = await prepare(trial.stages.at(-1)!);
    const started = performance.now();
    for (const [i, stage] of trial.stages.entries()) {
      const { batch, factors, optimizer, average, until, keep, evaluateEvery = EVALUATE_EVERY } = stage;
      const steps = Math.max(1, Math.round(stage.steps * (share ?? 1)));
      const { data, sequence } = await prepare(stage);
      const run = join(folder, String(i));
      const learned = new AbortController();
      const set = { ...trial.set, ...stage.set };
      const model = siblingModel({ reads: tested.reads, sequence }, design, trial.size, set);
      const { step, best } = await train({
        model,
        data,
        settings: {
          ...TRAINING_DEFAULTS,
          ...{ steps, batch, sequence: positionsOf(model, sequence), learningRate: rate, seed },
          ...{ warmupSteps: Math.min(200, Math.round(steps / 10)), saveEvery: 0 },
          evaluateEvery: until === undefined && keep === undefined ? 0 : evaluateEvery,
          optimizer: {
            ...(optimizer === 'muon' ? MUON_DEFAULTS : ADAMW_DEFAULTS),
            ...(average !== undefined && { averageDecay: average }),
          },
          ...(factors && { rates: factors }),
          ...(keep && { keep }),
        },
        device,
        folder: run,
        ...(from !== undefined && { from }),
        signal: learned.signal,
        onEvent: (event) => {
          if (event.event !== 'evaluation') return;
          last = event;
          if (until !== undefined && (event.measures?.accuracy ?? 0) >= until) learned.abort();
        },
      });
      last = best ?? last;
      from = join(run, CHECKPOINT);
      tokens += step * batch * sequence;
    }
    const seconds = Math.round(performance.now() - started) / 1000;
    const { loss, measures } = last!;
    const numbers: Finding['numbers'] = { loss, ...measures, tokens, seconds };
    if (share !== undefined) return numbers;
    const { model, weights } = await openModel(from!);
    numbers.parameters = parametersIn(model);
    const options = { count: trial.count, seed, longest: trial.longest };
    for await (const { of, value, answers } of tested.score({ model, weights, device }, options)) {
      numbers[SCORE + of] = value;
      if (answers !== undefined) numbers[ANSWERS + of] = answers;
    }
    for (const [name, score] of Object.entries(tested.baselines ?? {})) numbers[BASELINE + name] = score;
    return numbers;
  } catch (error) {
    if (error instanceof DivergenceError) return { [DIVERGED]: 1 };
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
