/** The server's training runs, and the logs of the selected ones, which are followed. */
import { batch, signal } from '@preact/signals';
import type { RunLog, TrainingRun } from '../../../src/server/studio-api.js';
import { listRuns, readRun } from '../api.js';
import { poll } from '../parts/polling.js';

/** The part of a log that has been read. */
export type Log = Pick<RunLog, 'steps' | 'evaluations' | 'samples'>;

/** The server's training runs; `undefined` before they are listed. */
export const runs = signal<readonly TrainingRun[] | undefined>(undefined);
/** The command that starts a run. */
export const beginning = signal('');
/** What has been read of the compared runs' logs, by the runs' ids. */
export const logs = signal<Readonly<Record<string, Log>>>({});
/** The compared runs, with the number of each run's colour. */
export const compared = signal<ReadonlyMap<string, number>>(new Map());

const COLOURS = 6;
/** The number of runs that are compared initially. */
const FIRST = 3;

const cursors = new Map<string, string>();

/** Polls the runs until the returned function is called. `onError` gets an error once until a request succeeds again. */
export function follow(onError: (error: unknown) => void): () => void {
  return poll(async () => {
    await refresh();
    return undefined;
  }, onError);
}

async function refresh(): Promise<void> {
  const { data: found, begin } = await listRuns();
  const begun = runs.value === undefined;
  batch(() => {
    runs.value = found;
    beginning.value = begin;
    if (begun) for (const { id } of found.slice(0, FIRST)) compare(id, true);
  });
  await Promise.all([...compared.value.keys()].map(catchUp));
}

/** Adds a run to the compared ones, in a colour that none of them has, or takes it out. */
export function compare(id: string, wanted: boolean): void {
  const chosen = new Map(compared.value);
  const taken = new Set(chosen.values());
  const free = Array.from({ length: COLOURS }, (_, i) => i).find((colour) => !taken.has(colour));
  if (wanted && !chosen.has(id)) chosen.set(id, free ?? chosen.size % COLOURS);
  if (!wanted) chosen.delete(id);
  compared.value = chosen;
}

/** Reads the new part of a log. */
export async function catchUp(id: string): Promise<void> {
  for (;;) {
    const from = cursors.get(id);
    const part = await readRun(id, from);
    // Another call may have read the same part meanwhile.
    if (cursors.get(id) !== from) return;
    cursors.set(id, part.next);
    const known = part.anew ? undefined : logs.value[id];
    const grown =
      part.anew || !known || part.steps.step.length + part.evaluations.length + part.samples.length > 0;
    if (grown) logs.value = { ...logs.value, [id]: known ? joined(known, part) : part };
    if (!part.more) return;
  }
}

function joined(a: Log, b: Log): Log {
  return {
    steps: {
      step: a.steps.step.concat(b.steps.step),
      loss: a.steps.loss.concat(b.steps.loss),
      learningRate: a.steps.learningRate.concat(b.steps.learningRate),
      tokensPerSecond: a.steps.tokensPerSecond.concat(b.steps.tokensPerSecond),
    },
    evaluations: a.evaluations.concat(b.evaluations),
    samples: a.samples.concat(b.samples),
  };
}

/** How much of the average before remains at each value. */
const SMOOTHING = 0.9;

/** An exponential moving average with bias correction. */
export function smoothed(values: readonly number[]): number[] {
  let sum = 0;
  let weights = 0;
  return values.map((value) => {
    sum = SMOOTHING * sum + value;
    weights = SMOOTHING * weights + 1;
    return sum / weights;
  });
}
