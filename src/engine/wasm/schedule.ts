/**
 * Builds schedules in shared memory: groups steps into stages, assigns memory to their results, and writes the words that kernels read.
 * Steps are in one stage if no thread needs another thread's results within it; between stages there is a barrier. The memory of a result
 * is reused after the last stage that reads it.
 */
import type { Buffer, Lowered, Step, Word } from '../../graph/index.js';
import type { SharedMemory } from './memory.js';

/** Header words of a stage, and of a step; see kernels/index.ts. */
const STAGE = 2;
const STEP = 2;
/** Bytes of a stage's counters: a cache line. */
const COUNTERS = 64;
const ALIGNMENT = 64;

/** A step and its stage: steps of one stage do not depend on each other. */
export interface PlannedStep {
  readonly step: Step;
  readonly stage: number;
}

/** Assigns each step the earliest stage that its operands allow. */
export function stagesOf(steps: readonly Step[]): PlannedStep[] {
  const made = new Map<Buffer, number>();
  const changed = new Map<number, number>();
  const planned = steps.map((step) => {
    let stage = 0;
    for (const buffer of step.reads) {
      stage = Math.max(stage, (made.get(buffer) ?? -1) + (step.own?.has(buffer) ? 0 : 1));
    }
    for (const state of step.readsStates ?? []) stage = Math.max(stage, (changed.get(state) ?? -1) + 1);
    for (const buffer of step.writes) made.set(buffer, Math.max(stage, made.get(buffer) ?? 0));
    for (const state of step.writesStates ?? []) changed.set(state, Math.max(stage, changed.get(state) ?? 0));
    return { step, stage };
  });
  return planned.sort((a, b) => a.stage - b.stage);
}

/** The offset of each temporary buffer in one block, and the size of that block. */
export function planMemory(
  planned: readonly PlannedStep[],
  { inputs, outputs }: Pick<Lowered, 'inputs' | 'outputs'>,
): { offsets: Map<Buffer, number>; bytes: number } {
  const lives = new Map<Buffer, { from: number; to: number }>();
  const end = (planned.at(-1)?.stage ?? 0) + 1;
  const touch = (buffer: Buffer, stage: number): void => {
    if (buffer.isConstant) return;
    const life = lives.get(buffer);
    if (!life) lives.set(buffer, { from: stage, to: stage });
    else {
      life.from = Math.min(life.from, stage);
      life.to = Math.max(life.to, stage);
    }
  };
  for (const buffer of inputs.values()) touch(buffer, -1);
  for (const { step, stage } of planned) {
    for (const buffer of step.writes) touch(buffer, stage);
    for (const buffer of step.reads) touch(buffer, stage);
  }
  for (const { buffer } of outputs.values()) touch(buffer, end);
  return placed(lives);
}

function placed(lives: ReadonlyMap<Buffer, { from: number; to: number }>) {
  const offsets = new Map<Buffer, number>();
  const order = [...lives].sort(([a], [b]) => b.bytes - a.bytes);
  // Sorted by offset, so that gaps are found in one pass.
  const taken: { start: number; end: number; from: number; to: number }[] = [];
  let bytes = 0;
  for (const [buffer, { from, to }] of order) {
    const size = Math.ceil(Math.max(1, buffer.bytes) / ALIGNMENT) * ALIGNMENT;
    let start = 0;
    for (const other of taken) {
      if (other.to < from || other.from > to) continue;
      if (start + size <= other.start) break;
      start = Math.max(start, other.end);
    }
    offsets.set(buffer, start);
    const entry = { start, end: start + size, from, to };
    const at = taken.findIndex((other) => other.start > start);
    if (at < 0) taken.push(entry);
    else taken.splice(at, 0, entry);
    bytes = Math.max(bytes, start + size);
  }
  return { offsets, bytes };
}

/** A schedule in the kernels' memory, by addresses. */
export interface Schedule {
  /** The block that contains it, which begins with the stages' counters. */
  readonly block: number;
  /** The addresses of its first stage, and of its end. */
  readonly start: number;
  readonly end: number;
}

/** Writes steps into shared memory. `addressOf` gives the addresses of buffers, `tableOf` those of the states' tables. */
export function writeSchedule(
  memory: SharedMemory,
  planned: readonly PlannedStep[],
  addressOf: (buffer: Buffer) => number,
  tableOf: (state: number, side: 'before' | 'after') => number,
): Schedule {
  const stages = [...new Set(planned.map(({ stage }) => stage))].map((stage) =>
    planned.flatMap((entry) => (entry.stage === stage ? [entry.step] : [])),
  );
  let length = stages.length * STAGE;
  let rows = 0;
  for (const { step } of planned) {
    length += STEP + step.words.length;
    for (const word of step.words) if (typeof word !== 'number' && 'table' in word) rows += word.rows;
  }
  const block = memory.allocate(stages.length * COUNTERS + 4 * (length + rows));
  const start = block + stages.length * COUNTERS;
  const words = memory.int32(start, length + rows);
  let at = 0;
  let table = length;
  const resolve = (word: Word): number => {
    if (typeof word === 'number') return word;
    if ('buffer' in word) return addressOf(word.buffer) + word.bytes;
    if ('state' in word) return tableOf(word.state, word.side);
    const first = table;
    for (let i = 0; i < word.rows; i++) words[table++] = addressOf(word.table) + word.bytes + i * word.stride;
    return start + 4 * first;
  };
  for (const [i, steps] of stages.entries()) {
    const size = steps.reduce((sum, step) => sum + STEP + step.words.length, STAGE);
    words.set([4 * size, block + i * COUNTERS], at);
    at += STAGE;
    for (const step of steps) {
      words.set([step.kernel, 4 * (STEP + step.words.length), ...step.words.map(resolve)], at);
      at += STEP + step.words.length;
    }
  }
  return { block, start, end: start + 4 * length };
}
