/** A limit of the work to compile a request's grammar, counted in steps so that it is the same on every machine. */
import { ConfigError } from '../../errors.js';

/** About a quarter of a second: a step is a transition of an automaton, a node of a grammar, or something as small. */
const STEPS = 1_200_000;

/** Limits the work that one schema may cause, counted in steps. */
export class Work {
  spent = 0;

  constructor(private readonly steps = STEPS) {}

  /** Counts steps. Throws `WorkError` beyond the limit. */
  spend(steps: number): void {
    this.spent += steps;
    if (this.spent > this.steps) throw new WorkError('it takes too much work to follow: make it simpler');
  }
}

/** A request's grammar takes too much work. */
export class WorkError extends ConfigError {}
