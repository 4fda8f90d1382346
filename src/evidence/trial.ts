/** A design trained on a task: its learning rate is chosen among some by a held-out loss, then it is trained with several seeds and tested. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHECKPOINT, openModel, type Size } from '../models/index.js';
import { taskOf } from '../tasks/index.js';
import { type Evaluation, TRAINING_DEFAULTS, train } from '../train/index.js';
import type { Finding } from './finding.js';
import { isSibling, type Keys, parametersIn, siblingModel } from './siblings.js';
import type { Bench, Work } from './work.js';

/** Steps on a task, or on an easier one before it. */
export interface Stage {
  readonly task: string;
  /** Positions of an example; the task's own by default. */
  readonly length?: number;
  readonly steps: number;
  readonly batch: number;
}

export interface Trial {
  /** The section that it belongs to. */
  readonly section: string;
  /** What is told of it in tables: the task's name by default. */
  readonly name?: string;
  /** The last of them is what is tested. */
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
export const BASELINE = 'baseline: ';

export function trialName({ name, stages }: Trial): string {
  return name ?? stages.at(-1)!.task;
}

/** A piece of work for each design. */
export function trialWorks(trial: Trial): Work[] {
  return trial.designs.map((design) => ({
    name: `${trial.section}/${trialName(trial)}/${design}`,
    run: (bench) => runTrial(trial, design, bench),
  }));
}

async function runTrial(trial: Trial, design: string, bench: Bench): Promise<void> {
  const { rates, seeds, tuning = 0.3 } = trial;
  const settings = settingsOf(trial, design);
  let [rate, best] = [rates[0]!, Number.POSITIVE_INFINITY];
  if (rates.length > 1) {
    for (const each of rates) {
      const wanted = { of: `rate ${each}`, settings: { ...settings, rate: each, tuning }, seed: 0 };
      const { loss } = await bench.finding(wanted, () => trained(trial, design, bench, each, 0, tuning));
      if (loss! < best) [rate, best] = [each, loss!];
    }
  }
  for (const seed of seeds) {
    const wanted = { of: `seed ${seed}`, settings: { ...settings, rate }, seed };
    await bench.finding(wanted, () => trained(trial, design, bench, rate, seed));
  }
}

function settingsOf({ stages, size, set, count, longest }: Trial, design: string): Finding['settings'] {
  return {
    design,
    size,
    stages: stages
      .map(({ task, length, steps, batch }) => `${task}${length ? `@${length}` : ''}: ${steps} x ${batch}`)
      .join(', '),
    ...(isSibling(design) && { matched: true }),
    ...(set && { set: JSON.stringify(set) }),
    count,
    longest,
  };
}

/** Trains, and tests unless it is a part of the training alone. */
async function trained(
  trial: Trial,
  design: string,
  { device }: Bench,
  rate: number,
  seed: number,
  share?: number,
): Promise<Finding['numbers']> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-evidence-'));
  try {
    let last: Evaluation | undefined;
    let from: string | undefined;
    let tokens = 0;
    const started = performance.now();
    for (const [i, { task, length, batch, ...stage }] of trial.stages.entries()) {
      const steps = Math.max(1, Math.round(stage.steps * (share ?? 1)));
      const prepared = await taskOf(task).prepare(length);
      const model = siblingModel(prepared, design, trial.size, trial.set);
      const run = join(folder, String(i));
      await train({
        model,
        data: prepared.data,
        settings: {
          ...TRAINING_DEFAULTS,
          ...{ steps, batch, sequence: prepared.sequence, learningRate: rate, seed },
          ...{ warmupSteps: Math.min(200, Math.round(steps / 10)), evaluateEvery: 0, saveEvery: 0 },
        },
        device,
        folder: run,
        ...(from !== undefined && { from }),
        onEvent: (event) => {
          if (event.event === 'evaluation') last = event;
        },
      });
      from = join(run, CHECKPOINT);
      tokens += steps * batch * prepared.sequence;
    }
    const seconds = Math.round(performance.now() - started) / 1000;
    const { loss, measures } = last!;
    const numbers: Finding['numbers'] = { loss, ...measures, tokens, seconds };
    if (share !== undefined) return numbers;
    const { task, length } = trial.stages.at(-1)!;
    const prepared = await taskOf(task).prepare(length);
    const { model, weights } = await openModel(from!);
    numbers.parameters = parametersIn(model);
    const options = { count: trial.count, seed, longest: trial.longest };
    for await (const { of, value } of prepared.score({ model, weights, device }, options))
      numbers[SCORE + of] = value;
    for (const [name, score] of Object.entries(prepared.baselines ?? {})) numbers[BASELINE + name] = score;
    return numbers;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
