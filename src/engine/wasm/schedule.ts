/**
 * A schedule in the shared memory: which steps run without a barrier in between, where their results lie, and the words that
 * kernels read. Steps stand in one stage where none needs what another thread does in it; between stages all threads wait for
 * each other. A result's memory is another's as soon as the last stage that reads it is over.
 */
import type { Buffer, Lowered, Step, Word } from '../../graph/index.js';
import type { SharedMemory } from './memory.js';

/** Words before a step's own: its kernel, bytes to the next step, whether a barrier follows. */
const HEADER = 3;
const ALIGNMENT = 64;

export interface PlannedStep {
  readonly step: Step;
  readonly stage: number;
}

/** Steps by stage: each as early as what it reads allows. */
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

/** Where each temporary buffer lies in memory that all of them share, and how large that is. */
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
  // By place, so that gaps are found in one walk.
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

export interface Schedule {
  readonly start: number;
  readonly end: number;
  /** The block in which it lies. */
  readonly block: number;
}

/** Writes steps into the shared memory. `addressOf` says where buffers are, `tableOf` where the tables of states are. */
export function writeSchedule(
  memory: SharedMemory,
  planned: readonly PlannedStep[],
  addressOf: (buffer: Buffer) => number,
  tableOf: (state: number, side: 'before' | 'after') => number,
): Schedule {
  let length = 0;
  let rows = 0;
  for (const { step } of planned) {
    length += HEADER + step.words.length;
    for (const word of step.words) if (typeof word !== 'number' && 'table' in word) rows += word.rows;
  }
  const block = memory.allocate(4 * (length + rows));
  const words = memory.int32(block, length + rows);
  let at = 0;
  let table = length;
  const resolve = (word: Word): number => {
    if (typeof word === 'number') return word;
    if ('buffer' in word) return addressOf(word.buffer) + word.bytes;
    if ('state' in word) return tableOf(word.state, word.side);
    const first = table;
    for (let i = 0; i < word.rows; i++) words[table++] = addressOf(word.table) + word.bytes + i * word.stride;
    return block + 4 * first;
  };
  try {
    for (const [i, { step, stage }] of planned.entries()) {
      const isLast = planned[i + 1]?.stage !== stage;
      const next = at + HEADER + step.words.length;
      words[at] = step.kernel;
      words[at + 1] = 4 * (next - at);
      words[at + 2] = isLast ? 1 : 0;
      for (const [j, word] of step.words.entries()) words[at + HEADER + j] = resolve(word);
      at = next;
    }
  } catch (error) {
    memory.release(block);
    throw error;
  }
  return { start: block, end: block + 4 * length, block };
}
