/**
 * A design trained on a task: its learning rate is chosen among some by the held-out loss of its first seed, then it is trained with several
 * seeds and tested. A run that diverges is written down, and the others go on.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DivergenceError, TrainingError } from '../errors.js';
import { CHECKPOINT, openModel, type Size } from '../models/index.js';
import { type PreparedTask, taskOf } from '../tasks/index.js';
import { ADAMW_DEFAULTS, type Evaluation, MUON_DEFAULTS, TRAINING_DEFAULTS, train } from '../train/index.js';
import type { Finding } from './finding.js';
import { recipeOf } from './recipe.js';
import { type Keys, parametersIn, siblingModel } from './siblings.js';
import type { Bench, Wanted, Work } from './work.js';

/** Steps on a task, or on an easier one before it. */
export interface Stage {
  readonly task: string;
  /** Positions of an example; the task's own by default. */
  readonly length?: number;
  readonly steps: number;
  readonly batch: number;
  /** AdamW by default. */
  readonly optimizer?: 'muon';
  /** Factors of the learning rate by patterns of parameter names, as in `TrainingSettings`. */
  readonly factors?: Readonly<Record<string, number>>;
  /** The accuracy on held-out examples with which the stage ends before its last step. */
  readonly until?: number;
  /** Keys of the config that are other ones in this stage, and change no parameter's shape. The last stage has none: its model is tested. */
  readonly set?: Keys;
}

/** Designs that are trained on the same tasks with the same steps. */
export interface Trial {
  /** The section that it belongs to. */
  readonly section: string;
  /** What is told of it in tables: the task's name by default. */
  readonly name?: string;
  /** The last of them is what is tested; its vocabulary is that of the model. */
  readonly stages: readonly Stage[];
  readonly size: Size;
  readonly designs: readonly string[];
  /** Keys of the config for all designs. */
  readonly set?: Keys;
  readonly rates: readonly number[];
  /** A share of the steps that is enough to choose a rate. */
  readonly tuning?: number;
  readonly seeds: readonly number[];
  /** Examples of a test. */
  readonly count: number;
  readonly longest: number;
}

/** What names of numbers begin with. */
export const SCORE = 'score: ';
/** Begins the names of the numbers of answers that tests asked for. */
export const ANSWERS = 'answers: ';
/** Begins the names of numbers that a task's baselines reach. */
export const BASELINE = 'baseline: ';
/** A number of its own, 1, in the place of a loss and of scores. */
export const DIVERGED = 'diverged';

/** What a trial is called in tables. */
export function trialName({ name, stages }: Trial): string {
  return name ?? stages.at(-1)!.task;
}

/** A piece of work for each design. */
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

/** By the rate: what chooses it, where there are several, and what is then found with it, a seed each. */
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
/** Steps between evaluations of a stage that ends when its task is learned. */
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

function stageText({ task, length, steps, batch, optimizer, factors, until, set }: Stage): string {
  return [
    `${task}${length ? `@${length}` : ''}: ${steps} x ${batch}`,
    ...(until === undefined ? [] : [`until ${until}`]),
    ...(optimizer ? [optimizer] : []),
    ...Object.entries(factors ?? {}).map(([pattern, factor]) => `${pattern} x ${factor}`),
    ...Object.entries(set ?? {}).map(([key, value]) => `${key} ${value}`),
  ].join(' ');
}

/** The task of the last stage, by what `settings.stages` says. */
export function taskTested(stages: string): string {
  return /^[^@:]+/.exec(stages.split(', ').at(-1)!)![0];
}

/** Prepares each task once: some are spoken, or read from many files. */
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
  /** Of the steps; without it all are made, and the model is tested. */
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
      const { batch, factors, optimizer, until } = stage;
      const steps = Math.max(1, Math.round(stage.steps * (share ?? 1)));
      const { data, sequence } = await prepare(stage);
      const run = join(folder, String(i));
      const learned = new AbortController();
      const { step } = await train({
        model: siblingModel({ reads: tested.reads, sequence }, design, trial.size, {
          ...trial.set,
          ...stage.set,
        }),
        data,
        settings: {
          ...TRAINING_DEFAULTS,
          ...{ steps, batch, sequence, learningRate: rate, seed },
          ...{ warmupSteps: Math.min(200, Math.round(steps / 10)), saveEvery: 0 },
          evaluateEvery: until === undefined ? 0 : EVALUATE_EVERY,
          optimizer: optimizer === 'muon' ? MUON_DEFAULTS : ADAMW_DEFAULTS,
          ...(factors && { rates: factors }),
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
