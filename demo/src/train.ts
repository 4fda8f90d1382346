/** A training run of this tab, and what it has told so far. */
import { batch, signal } from '@preact/signals';
import type { TrainingEvent } from '../../src/browser/index.js';
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
/** It can be gone on with, opened and downloaded. */
export const saved = signal(false);

export interface Log {
  readonly step: readonly number[];
  readonly loss: readonly number[];
  readonly evaluated: readonly number[];
  readonly validation: readonly number[];
  readonly tokensPerSecond: number | undefined;
  readonly samples: readonly { readonly step: number; readonly prompt: string; readonly text: string }[];
}

const EMPTY: Log = {
  step: [],
  loss: [],
  evaluated: [],
  validation: [],
  tokensPerSecond: undefined,
  samples: [],
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

/** Begins the run, or goes on with it for as many steps again. */
export async function train(resume: boolean): Promise<void> {
  const controller = new AbortController();
  const run = resume ? shown.value! : name.value;
  const done = resume ? (log.value.step.at(-1) ?? 0) : 0;
  batch(() => {
    running.value = controller;
    shown.value = run;
    if (!resume) log.value = EMPTY;
  });
  try {
    await heddle.train({
      name: run,
      resume,
      ...(!resume && { text: text.value }),
      settings: { ...SETTINGS, steps: done + steps.value },
      onEvent: take,
      signal: controller.signal,
    });
  } finally {
    running.value = undefined;
    await listRuns();
  }
}

function take(event: TrainingEvent): void {
  const before = log.value;
  if (event.event === 'step') {
    log.value = {
      ...before,
      step: [...before.step, event.step],
      loss: [...before.loss, event.loss],
      tokensPerSecond: event.tokensPerSecond,
    };
  } else if (event.event === 'evaluation') {
    log.value = {
      ...before,
      evaluated: [...before.evaluated, event.step],
      validation: [...before.validation, event.loss],
    };
  } else if (event.event === 'sample') {
    log.value = { ...before, samples: [event, ...before.samples] };
  } else saved.value = true;
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
      saved.value = false;
    });
  }
  await listRuns();
}
