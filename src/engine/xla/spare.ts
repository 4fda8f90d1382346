/** States that fill up the batches of a program. */
import type { State } from '../program.js';

/** States that fill up batches. They stay the same ones, so that a batch stays one. */
export class Spare {
  private readonly states: (State & { length: number })[] = [];

  constructor(private readonly make: () => State) {}

  of(count: number): readonly State[] {
    while (this.states.length < count) this.states.push(this.make());
    const used = this.states.slice(0, count);
    // Nobody reads their entries, so each run may overwrite them from the start.
    for (const state of used) state.length = 0;
    return used;
  }

  dispose(): void {
    for (const state of this.states.splice(0)) state.dispose();
  }
}
