/** Loads the model that answers `ask` and `summary`. */
import { type Archive, type ArchiveModel, LocalModel } from '../../archive/index.js';
import { type LoadingFlags, loadAsAsked } from '../loading-options.js';

/**
 * Loads a model, calls `use` with it, and disposes of it in any case. After Ctrl-C the exit status is 130. Throws as `loadModel` and `use` do.
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
