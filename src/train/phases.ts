/**
 * A run in phases, one after the other: each may have other lengths of sequences (a curriculum), other batches, and other rates, by which
 * some parameters learn first and others later. The schedule of the learning rate is that of the whole run.
 */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import type { TrainingSettings } from './settings.js';

const whole = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);

const phaseSchema = z.strictObject({
  steps: whole,
  sequence: whole.optional(),
  batch: whole.optional(),
  accumulate: whole.optional(),
  rates: z.record(z.string(), z.number().nonnegative()).optional(),
});

/** What differs from the settings of the run for so many steps; its `rates` take the place of all of theirs. */
export type TrainingPhase = z.output<typeof phaseSchema>;

/** Phases out of JSON; `source` is for messages. Throws `ConfigError` for what is none, naming the phase and the key. */
export function parsePhases(json: unknown, source: string): TrainingPhase[] {
  const result = z.array(phaseSchema).min(1, 'there is no phase').safeParse(json);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    const [index, ...path] = issue.path;
    const where =
      index === undefined
        ? ''
        : `phase ${Number(index) + 1}${path.length > 0 ? `, ${path.join('.')}` : ''}: `;
    return `${where}${issue.code === 'unrecognized_keys' ? `unknown keys ${issue.keys.join(', ')}` : issue.message}`;
  });
  throw new ConfigError(
    `${source} has no phases of a run: ${problems.join('; ')}. Expected a list as in [{"steps": 200, "sequence": 64, "rates": {"layer:S": 0}}, {"steps": 300}]`,
  );
}

/** Steps of all phases. */
export function stepsOf(phases: readonly TrainingPhase[]): number {
  return phases.reduce((total, { steps }) => total + steps, 0);
}

/** A phase at its place in a run. */
export interface PlacedPhase {
  /** Steps before it, and those up to its end. */
  readonly start: number;
  readonly end: number;
  /** Examples before it. */
  readonly examples: number;
  /** Whether its rows are as many and as long as those of the phase before: each can then go on where that one's has ended. */
  readonly goesOn: boolean;
  readonly settings: TrainingSettings;
}

/** The phases of a run; one that has none is one. */
export function phasesOf(settings: TrainingSettings): PlacedPhase[] {
  const { phases, ...common } = settings;
  const placed: PlacedPhase[] = [];
  let [start, examples] = [0, 0];
  for (const { steps, ...own } of phases ?? [{ steps: settings.steps }]) {
    const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
    const resolved: TrainingSettings = { ...common, ...given };
    const before = placed.at(-1)?.settings;
    const goesOn = (['sequence', 'batch', 'accumulate'] as const).every(
      (key) => before?.[key] === resolved[key],
    );
    placed.push({ start, end: start + steps, examples, goesOn, settings: resolved });
    start += steps;
    examples += steps * resolved.batch * resolved.accumulate;
  }
  return placed;
}

/** Examples that a run reads, and places of all of them: tokens, say. */
export function examplesRead(settings: TrainingSettings): number {
  return phasesOf(settings).reduce((sum, phase) => sum + examplesIn(phase), 0);
}

/** The places (tokens, say) of all examples that a run reads. */
export function placesRead(settings: TrainingSettings): number {
  return phasesOf(settings).reduce((sum, phase) => sum + examplesIn(phase) * phase.settings.sequence, 0);
}

function examplesIn({ start, end, settings: { batch, accumulate } }: PlacedPhase): number {
  return (end - start) * batch * accumulate;
}

/** The phase to which the step after `done` others belongs; at the end the last one. */
export function phaseAfter(phases: readonly PlacedPhase[], done: number): PlacedPhase {
  return phases.find(({ end }) => done < end) ?? phases.at(-1)!;
}

/** The phase that did step `done`; at the beginning the first one. */
export function phaseBefore(phases: readonly PlacedPhase[], done: number): PlacedPhase {
  return phases.find(({ end }) => done <= end) ?? phases.at(-1)!;
}
