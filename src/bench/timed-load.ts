/** Loads a model in a process that measures itself; the process's arguments are the model's folder and the number of threads. */
import { openDevice } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import { locateWeights, readModel } from '../models/index.js';
import { bytesTokenizer } from './generation-section.js';

/** Loads the model; returns it with the seconds that it took. */
export async function timedLoad(): Promise<{ language: LanguageModel; seconds: number }> {
  const [folder, threads] = process.argv.slice(2) as [string, string];
  const started = performance.now();
  const model = await readModel(folder);
  const device = await openDevice('cpu', { threads: Number(threads) });
  const weights = await locateWeights(folder, model);
  const language = await LanguageModel.compile(model, weights, bytesTokenizer(), device);
  return { language, seconds: (performance.now() - started) / 1000 };
}
