/**
 * Sessions that write at the same time, as rows of one batch: a matrix product of several rows costs hardly more than of
 * one. They come and go between runs. Whoever waits when a run begins takes part in it; their memories are joined, and
 * stay joined as long as the same ones go on.
 */
import { joinMemories, type Memory, splitMemory } from '../engine/loop/index.js';
import type { Continuation, LanguageModel, Written } from './language-model.js';

export interface BatchingOptions {
  /** At most so many rows in a run; the others wait for the next. */
  maxRows?: number;
}

/** More rows have their states read from memory as often as fewer, so they gain little. */
const MAX_ROWS = 16;

interface Waiting {
  readonly continuation: Continuation;
  readonly memory: Memory;
  readonly done: (written: Written) => void;
  readonly failed: (error: unknown) => void;
}

export class Batching {
  private waiting: Waiting[] = [];
  private running = false;
  /** The memories of the last run, in the order of their rows. */
  private rows: readonly Memory[] = [];
  private readonly axes: ReadonlyMap<string, number>;
  private readonly maxRows: number;

  constructor(
    readonly model: LanguageModel,
    { maxRows = MAX_ROWS }: BatchingOptions = {},
  ) {
    this.maxRows = maxRows;
    this.axes = new Map(model.model.state.map(({ name, shape }) => [name, shape.indexOf('batch')]));
  }

  /** As `LanguageModel.write` for one sequence, in the next run. The memory may move on by more than was asked for. */
  write(continuation: Continuation, memory: Memory): Promise<Written> {
    return new Promise((done, failed) => {
      this.waiting.push({ continuation, memory, done, failed });
      if (this.running) return;
      this.running = true;
      void this.runAll();
    });
  }

  private async runAll(): Promise<void> {
    for (;;) {
      // Those who took part in a run get to ask for the next one.
      await new Promise(setImmediate);
      const now = this.waiting.splice(0, this.maxRows);
      if (now.length === 0) break;
      // In the order of the last run: rows that stand side by side already need not be moved.
      const seat = ({ memory }: Waiting): number => this.rows.indexOf(memory) + 1 || this.rows.length + 1;
      now.sort((a, b) => seat(a) - seat(b));
      try {
        const written = await this.run(now);
        for (const [i, { done }] of now.entries()) done(written[i]!);
      } catch (error) {
        for (const { failed } of now) failed(error);
      }
    }
    this.rows = [];
    this.running = false;
  }

  private async run(rows: readonly Waiting[]): Promise<Written[]> {
    const continuations = rows.map(({ continuation }) => continuation);
    const memories = rows.map(({ memory }) => memory);
    this.rows = memories;
    if (rows.length === 1) return this.model.write(continuations, memories[0]!);
    const joint = await joinMemories(memories, this.axes);
    try {
      const written = await this.model.write(continuations, joint);
      await splitMemory(joint, memories, this.axes);
      return written;
    } finally {
      joint.dispose();
    }
  }
}
