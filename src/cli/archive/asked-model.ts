/** The model that `ask` and `summary` have answer: loaded for one call. */
import { type Archive, type ArchiveModel, LocalModel } from '../../archive/index.js';
import { type LoadingFlags, loadAsAsked } from '../loading-options.js';

/**
 * Loads a model, has `use` ask it, and lets go of it whatever happens. What a person has ended exits with 130. Throws as `loadModel` and
 * `use` do.
 */
export async function withAskedModel(
  archive: Archive,
  name: string,
  flags: LoadingFlags,
  signal: AbortSignal,
  use: (model: ArchiveModel) => Promise<void>,
): Promise<void> {
  const model = await loadAsAsked(name, flags);
  try {
    await use(await LocalModel.of(name, archive, model));
  } catch (error) {
    if (!(signal.aborted && error === signal.reason)) throw error;
    process.exitCode = 130;
  } finally {
    await model.dispose();
  }
}
