/** The folder of a run: its lock, and its log, `metrics.jsonl`. */
import { appendText, join, lockFolder, readText, statsOf } from '#platform';
import { inWords, parseJson, recoverFolder, writeFileAtomic } from '../checkpoint/index.js';
import { StorageError, TrainingError } from '../errors.js';
import { CHECKPOINT, METRICS } from '../models/index.js';
import { reasonOf } from '../platform/unreadable.js';
import type { TrainingEvent } from './input.js';

/** Throws `TrainingError` if the folder already has a run: a new run never replaces another. */
export async function expectNoRun(folder: string): Promise<void> {
  for (const name of [CHECKPOINT, METRICS]) {
    const isThere = await statsOf(join(folder, name)).then(
      () => true,
      () => false,
    );
    if (!isThere) continue;
    throw new TrainingError(
      `${join(folder, name)} is there already, from another run: go on with that one (--resume), or train into another folder`,
    );
  }
}

/** A folder that only this process trains into, until it is unlocked. */
export class RunFolder {
  private readonly log: string;

  private constructor(
    folder: string,
    /** Lets other processes write the folder. */
    readonly unlock: () => Promise<void>,
  ) {
    this.log = join(folder, METRICS);
  }

  /**
   * Locks a folder, and finishes or undoes a save that was interrupted. Throws `StorageError` if another process trains into it, or if it cannot
   * be written; a new run (one that does not `resume`) throws as `expectNoRun` does.
   */
  static async open(folder: string, resume: boolean): Promise<RunFolder> {
    const unlock = await lockFolder(folder, folder, 'is training into it').catch((error: unknown) => {
      throw inWords(folder, error);
    });
    try {
      await recoverFolder(join(folder, CHECKPOINT));
      if (!resume) await expectNoRun(folder);
    } catch (error) {
      await unlock();
      throw error;
    }
    return new RunFolder(folder, unlock);
  }

  /** Truncates the log to the step of the last checkpoint; a new run starts with an empty log. */
  async trimLog(step: number): Promise<void> {
    const text = step === 0 ? '' : await readText(this.log).catch(() => '');
    const kept = text.split('\n').filter((line) => {
      const entry = parseJson(line) as { step?: number } | undefined;
      return entry?.step !== undefined && entry.step <= step;
    });
    await writeFileAtomic(this.log, kept.map((line) => `${line}\n`).join(''));
  }

  /** Appends events to the log, with the present time. Throws `StorageError` if it cannot be written. */
  async append(events: readonly TrainingEvent[]): Promise<void> {
    const time = new Date().toISOString();
    const lines = events.map((event) => `${JSON.stringify({ time, ...event })}\n`);
    await appendText(this.log, lines.join('')).catch((error: Error) => {
      throw new StorageError(`${this.log} cannot be written: ${reasonOf(error)}`, { cause: error });
    });
  }
}
