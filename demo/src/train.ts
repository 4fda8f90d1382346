/** A training run of this tab, and what it has told so far. */
import { batch, signal } from '@preact/signals';
import type { TabTraining, TrainingEvent } from '../../src/browser/index.js';
import { heddle, open } from './tab.js';
import { download } from './write.js';

export const text = signal('');
export const name = signal('my first model');
export const steps = signal(300);
/** The runs that this browser keeps. */
export const kept = signal<readonly string[]>([]);
export const running = signal<AbortController | undefined>(undefined);
/** The run that is shown. */
export const shown = signal<string | undefined>(undefined);

export interface Log {
  readonly step: readonly number[];
  readonly loss: readonly number[];
  readonly evaluated: readonly number[];
  readonly validation: readonly number[];
  readonly tokensPerSecond: number | undefined;
  readonly samples: readonly { readonly step: number; readonly prompt: string; readonly text: string }[];
  /** The step of the checkpoint, from which the run can be gone on with. */
  readonly saved: number | undefined;
}

const EMPTY: Log = {
  step: [],
  loss: [],
  evaluated: [],
  validation: [],
  tokensPerSecond: undefined,
  samples: [],
  saved: undefined,
};
export const log = signal<Log>(EMPTY);

const SETTINGS = { batch: 8, evaluateEvery: 25, saveEvery: 50, warmupSteps: 20 };

export async function listRuns(): Promise<void> {
  kept.value = await heddle.trainedRuns();
}

export async function useExample(): Promise<void> {
  text.value = await (await fetch('example.txt')).text();
  name.value = 'moby-dick';
}

/** Begins a run with the text. */
export async function begin(): Promise<void> {
  const run = name.value;
  await train(async () => {
    batch(() => {
      shown.value = run;
      log.value = EMPTY;
    });
    return { name: run, text: text.value, settings: { ...SETTINGS, steps: steps.value } };
  });
}

/** Goes on with a run for as many steps again, from its checkpoint. */
export async function goOn(run: string): Promise<void> {
  await train(async () => {
    await show(run);
    const { saved } = log.value;
    if (saved === undefined)
      throw new Error(`${run} was left before its first checkpoint: remove it, and begin again`);
    log.value = until(log.value, saved);
    // All else is as the run began: what this page begins one with may have changed since.
    return { name: run, resume: true, settings: { steps: saved + steps.value } };
  });
}

async function train(prepare: () => Promise<TabTraining>): Promise<void> {
  const controller = new AbortController();
  running.value = controller;
  try {
    const onEvent = (event: TrainingEvent): void => {
      log.value = after(log.value, [event]);
    };
    await heddle.train({ ...(await prepare()), onEvent, signal: controller.signal });
  } finally {
    running.value = undefined;
    await listRuns();
  }
}

/** Shows a run as its log has it, also one of an earlier visit. */
export async function show(run: string): Promise<void> {
  const events = await heddle.runLog(run);
  batch(() => {
    shown.value = run;
    log.value = after(EMPTY, events);
  });
}

/** What is known of a run after more events. */
function after(before: Log, events: readonly TrainingEvent[]): Log {
  const steps = events.filter((event) => event.event === 'step');
  const evaluations = events.filter((event) => event.event === 'evaluation');
  const samples = events.filter((event) => event.event === 'sample');
  return {
    step: [...before.step, ...steps.map(({ step }) => step)],
    loss: [...before.loss, ...steps.map(({ loss }) => loss)],
    evaluated: [...before.evaluated, ...evaluations.map(({ step }) => step)],
    validation: [...before.validation, ...evaluations.map(({ loss }) => loss)],
    tokensPerSecond: steps.at(-1)?.tokensPerSecond ?? before.tokensPerSecond,
    samples: [...samples.reverse(), ...before.samples],
    saved: events.findLast((event) => event.event === 'saved')?.step ?? before.saved,
  };
}

/** The same without what came behind a step, which is done again. */
function until({ step, loss, evaluated, validation, samples, ...rest }: Log, last: number): Log {
  const upTo = (steps: readonly number[]): number => steps.filter((each) => each <= last).length;
  return {
    ...rest,
    step: step.slice(0, upTo(step)),
    loss: loss.slice(0, upTo(step)),
    evaluated: evaluated.slice(0, upTo(evaluated)),
    validation: validation.slice(0, upTo(evaluated)),
    samples: samples.filter((sample) => sample.step <= last),
  };
}

export async function openTrained(run: string): Promise<void> {
  await open(run, { run });
  location.hash = '#/write';
}

export async function downloadTrained(run: string): Promise<void> {
  download(await heddle.downloadRun(run), `${run}.tar`);
}

export async function remove(run: string): Promise<void> {
  await heddle.forgetRun(run);
  if (shown.value === run) {
    batch(() => {
      shown.value = undefined;
      log.value = EMPTY;
    });
  }
  await listRuns();
}
