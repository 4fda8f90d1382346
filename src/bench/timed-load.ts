/** Loads a model as a process that measures itself does: its folder and the threads are the process's arguments. */
import { openDevice } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import { locateWeights, readModel } from '../models/index.js';
import { bytesTokenizer } from './generation-section.js';

/** The model, ready to run, and how long that took. */
export async function timedLoad(): Promise<{ language: LanguageModel; seconds: number }> {
  const [folder, threads] = process.argv.slice(2) as [string, string];
  const started = performance.now();
  const model = await readModel(folder);
  const device = await openDevice('cpu', { threads: Number(threads) });
  const weights = await locateWeights(folder, model);
  const language = await LanguageModel.compile(model, weights, bytesTokenizer(), device);
  return { language, seconds: (performance.now() - started) / 1000 };
}
