/** Attribution of written steps: the share of a step's attribution on the tokens from which it follows. */
import { type Device, int64, type Program } from '../engine/index.js';
import { attributionProgram } from '../inspect/index.js';
import type { Model } from '../models/index.js';
import { Random } from '../nn/index.js';
import type { Score } from './task.js';
import type { TokenTask } from './tokens.js';

/** The number of analysed steps; each takes a backward pass. */
const STEPS = 12;

/**
 * The share of absolute gradient x input, as in `LanguageModel.trace`, on the tokens of `task.sources`, averaged over steps.
 * If all tokens had the same attribution, it would be their share of the text. All steps are at the same position, that of a step of the first
 * example, since some devices compile a program for each length.
 */
export async function sourceShare(
  task: Pick<TokenTask, 'sample' | 'sources'>,
  model: Model,
  weights: NonNullable<Program['weights']>,
  device: Device,
  { length, seed, steps = STEPS }: { length: number; seed: number; steps?: number },
): Promise<Score> {
  const executable = await device.compile(attributionProgram(model, weights));
  const random = new Random(seed + 2 ** 21);
  try {
    let [share, alike, found] = [0, 0, 0];
    let place: number | undefined;
    while (found < steps) {
      const { tokens, answers } = task.sample(random, length);
      place ??= answers[answers.length >> 1]!.after;
      const step = answers.find(({ after }) => after === place);
      if (!step) continue;
      found++;
      const read = tokens.slice(0, place + 1);
      const { scores } = await executable.run({
        ids: int64(read, [1, read.length]),
        target: int64([step.token], [1]),
      });
      const sizes = Array.from(scores!.data as Float32Array, Math.abs);
      const all = sizes.reduce((a, b) => a + b, 0);
      const own = new Set(task.sources!(read, place));
      share += sizes.reduce((sum, size, at) => sum + (own.has(at) ? size : 0), 0) / (all * steps);
      alike += own.size / (read.length * steps);
    }
    return {
      of: `share of ${steps} steps' sources on their rules (${(100 * alike).toFixed(0)} % were all tokens alike)`,
      value: share,
    };
  } finally {
    await executable.dispose();
  }
}
