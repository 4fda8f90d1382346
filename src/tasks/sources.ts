/** Where a model draws its steps from: which share of a step's sources lies on what it follows from. */
import type { Device, Program } from '../engine/index.js';
import { LanguageModel } from '../generate/index.js';
import type { Model } from '../models/index.js';
import { Random } from '../nn/index.js';
import { idTokenizer } from '../text/index.js';
import type { Score } from './task.js';
import type { TokenTask } from './tokens.js';

/** Steps that are looked into: each takes a backward pass, and a hundred readings of the test that the trace makes of it. */
const STEPS = 12;

/**
 * Gradient x input of `LanguageModel.trace`, by size: how much of it falls on the tokens of `task.sources`, on the mean over steps. Were
 * all tokens alike, it would be their share of the text.
 */
export async function sourceShare(
  task: Pick<TokenTask, 'name' | 'sample' | 'sources'>,
  model: Model,
  weights: NonNullable<Program['weights']>,
  device: Device,
  { length, seed, steps = STEPS }: { length: number; seed: number; steps?: number },
): Promise<Score> {
  const reader = await LanguageModel.compile(model, weights, idTokenizer(model.vocabSize, task.name), device);
  const random = new Random(seed + 2 ** 21);
  try {
    let [share, alike] = [0, 0];
    for (let i = 0; i < steps; i++) {
      const { tokens, answers } = task.sample(random, length);
      const { after, token } = answers[i % answers.length]!;
      const read = tokens.slice(0, after + 1);
      const place = read.length;
      const { attributions } = await reader.trace([...read, token], {
        ...{ attribute: [place], layers: [], matrices: false, lens: 0 },
      });
      const sizes = Array.from(attributions[0]!.scores.data, Math.abs);
      const all = sizes.reduce((a, b) => a + b, 0);
      const own = new Set(task.sources!(read, after));
      share += sizes.reduce((sum, size, at) => sum + (own.has(at) ? size : 0), 0) / (all * steps);
      alike += own.size / (place * steps);
    }
    return {
      of: `share of ${steps} steps' sources on their rules (${(100 * alike).toFixed(0)} % were all tokens alike)`,
      value: share,
    };
  } finally {
    await reader.dispose();
  }
}
