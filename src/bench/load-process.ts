/** Loads a model in a process of its own: `node --expose-gc load-process.js <folder> <threads>`, a line of JSON back. */
import { say } from './line-process.js';
import type { LoadOutcome } from './load-section.js';
import { peakMemory } from './machine.js';
import { timedLoad } from './timed-load.js';

const { language, seconds } = await timedLoad();
const peakBytes = peakMemory();
const memory = language.newMemory();
await language.read([[1]], 0, memory);
(globalThis as { gc?: () => void }).gc?.();
const heldBytes = process.memoryUsage.rss();
say({ seconds, peakBytes, heldBytes } satisfies LoadOutcome);
