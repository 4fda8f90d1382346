/** Loads a model and prints a line of JSON: `node --expose-gc load-process.js <folder> <threads>`. */
import { say } from './line-process.js';
import type { LoadOutcome } from './load-section.js';
import { peakMemory } from './machine.js';
import { timedLoad } from './timed-load.js';

const { language, seconds } = await timedLoad();
const peakBytes = peakMemory();
const state = language.newState();
await language.read({ ids: [1], position: 0, state });
await language.read({ ids: [2, 3], position: 1, state });
(globalThis as { gc?: () => void }).gc?.();
const heldBytes = process.memoryUsage.rss();
say({ seconds, peakBytes, heldBytes } satisfies LoadOutcome);
