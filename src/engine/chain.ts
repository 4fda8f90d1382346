/** Runs two executables in sequence, as one. */
import type { Executable } from './program.js';

/**
 * An executable that runs `first` and feeds its outputs to `second`. Only `first` has states. If `second` fails, the states have already
 * advanced, so callers pass forks of the states that they keep.
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
