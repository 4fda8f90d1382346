/** How much a request may have computed for it before it is admitted, counted in steps so that it is the same on every machine. */
import { ConfigError } from '../../errors.js';

/** About a quarter of a second: a step is a transition of an automaton, a node of a grammar, or something as small. */
const STEPS = 1_200_000;

/** Limits the work that one schema may cause, counted in steps. */
export class Work {
  spent = 0;

  constructor(private readonly steps = STEPS) {}

  /** Adds to what is spent. Throws `WorkError` when that is too much. */
  spend(steps: number): void {
    this.spent += steps;
    if (this.spent > this.steps) throw new WorkError('it takes too much work to follow: make it simpler');
  }
}

/** More work than one request may cause. */
export class WorkError extends ConfigError {}
