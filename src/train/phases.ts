/**
 * Runs in phases: each phase may have its own sequence length (a curriculum), batch size, and learning rate factors, so that some parameters are
 * trained first and others later. The learning rate schedule spans the whole run.
 */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import { IN_WORDS } from '../schema-issues.js';
import type { TrainingSettings } from './settings.js';

const whole = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);

const phaseSchema = z.strictObject({
  steps: whole,
  sequence: whole.optional(),
  batch: whole.optional(),
  accumulate: whole.optional(),
  rates: z.record(z.string(), z.number().nonnegative()).optional(),
});

/** Changed settings for a number of steps; `rates` replace all rates of the run. */
export type TrainingPhase = z.output<typeof phaseSchema>;

/** Parses phases from JSON; `source` is for messages. Throws `ConfigError` with the phase and the key. */
export function parsePhases(json: unknown, source: string): TrainingPhase[] {
  const result = z.array(phaseSchema).min(1, 'there is no phase').safeParse(json, IN_WORDS);
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

/** The total steps of all phases. */
export function stepsOf(phases: readonly TrainingPhase[]): number {
  return phases.reduce((total, { steps }) => total + steps, 0);
}

/** A phase with its position in a run. */
export interface PlacedPhase {
  /** The number of steps before it, and up to its end. */
  readonly start: number;
  readonly end: number;
  /** The number of examples before it. */
  readonly examples: number;
  /** Whether its rows have the same number and length as in the previous phase, so that carried states remain valid. */
  readonly goesOn: boolean;
  readonly settings: TrainingSettings;
}

/** The phases of a run; without any, the run is one phase. */
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

/** The number of examples of a run, and of all their positions (such as tokens). */
export function examplesRead(settings: TrainingSettings): number {
  return phasesOf(settings).reduce((sum, phase) => sum + examplesIn(phase), 0);
}

/** The number of positions (such as tokens) of all examples of a run. */
export function placesRead(settings: TrainingSettings): number {
  return phasesOf(settings).reduce((sum, phase) => sum + examplesIn(phase) * phase.settings.sequence, 0);
}

function examplesIn({ start, end, settings: { batch, accumulate } }: PlacedPhase): number {
  return (end - start) * batch * accumulate;
}

/** The phase of step `done` + 1; the last phase at the end of the run. */
export function phaseAfter(phases: readonly PlacedPhase[], done: number): PlacedPhase {
  return phases.find(({ end }) => done < end) ?? phases.at(-1)!;
}

/** The phase of step `done`; the first phase at the beginning. */
export function phaseBefore(phases: readonly PlacedPhase[], done: number): PlacedPhase {
  return phases.find(({ end }) => done <= end) ?? phases.at(-1)!;
}
