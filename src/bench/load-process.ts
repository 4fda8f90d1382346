/** Loads a model in a process of its own: `node --expose-gc load-process.js <folder> <threads>`, a line of JSON back. */
import { peakMemory } from './machine.js';
import { timedLoad } from './timed-load.js';

export interface LoadOutcome {
  seconds: number;
  /** Resident at most while loading, and once a token was read. */
  peakBytes: number;
  heldBytes: number;
}

const { language, seconds } = await timedLoad();
const peakBytes = peakMemory();
const memory = language.newMemory();
await language.read([[1]], 0, memory);
(globalThis as { gc?: () => void }).gc?.();
const heldBytes = process.memoryUsage.rss();
const outcome: LoadOutcome = { seconds, peakBytes, heldBytes };
process.stdout.write(JSON.stringify(outcome));
