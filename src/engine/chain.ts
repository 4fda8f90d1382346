/** Two executables run one after the other as one. */
import type { Executable } from './program.js';

/**
 * The states are those of the first; what the second is fed are the first one's outputs. Where the second fails the states have moved on:
 * they are to be forks of those that are kept.
 */
export function chain(first: Executable, second: Executable): Executable {
  return {
    newState: (...initial) => first.newState(...initial),
    run: async (feeds, rows) => second.run(await first.run(feeds, rows)),
    dispose: async () => {
      await first.dispose();
      await second.dispose();
    },
  };
}
