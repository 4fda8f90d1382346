/** Loads a model in a process of its own: `node --expose-gc load-process.js <folder> <threads>`, a line of JSON back. */
import { openDevice } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import { locateWeights, readModel } from '../models/index.js';
import { bytesTokenizer } from './generation-section.js';
import { peakMemory } from './machine.js';

export interface LoadOutcome {
  seconds: number;
  /** Resident at most while loading, and once a token was read. */
  peakBytes: number;
  heldBytes: number;
}

const [folder, threads] = process.argv.slice(2) as [string, string];
const started = performance.now();
const model = await readModel(folder);
const device = await openDevice('cpu', { threads: Number(threads) });
const language = await LanguageModel.compile(
  model,
  await locateWeights(folder, model),
  bytesTokenizer(),
  device,
);
const seconds = (performance.now() - started) / 1000;
const peakBytes = peakMemory();
const memory = language.newMemory();
await language.read([[1]], 0, memory);
(globalThis as { gc?: () => void }).gc?.();
const heldBytes = process.memoryUsage.rss();
const outcome: LoadOutcome = { seconds, peakBytes, heldBytes };
process.stdout.write(JSON.stringify(outcome));
