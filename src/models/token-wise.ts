/** The layers of our own family that act on each token alone, and the mixer of each letter. */
import { gelu } from '../graph/index.js';
import { mixtureOfExperts, mlp, plainMlp } from '../nn/index.js';
import type { Build } from './letter.js';

interface TokenWiseConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly mlpType?: 'swiglu' | 'gelu' | undefined;
  readonly numExperts?: number | undefined;
  readonly numExpertsPerTok?: number | undefined;
  readonly moeIntermediateSize?: number | undefined;
}

/** The layers of a pattern that see each token alone, by their letters. */
export const TOKEN_WISE = {
  '-': ({ hiddenSize, intermediateSize, mlpType }, { outputDeviation }) => {
    const config = { hiddenSize, intermediateSize, outputDeviation };
    return mlpType === 'gelu' ? plainMlp({ ...config, activation: gelu, bias: true }) : mlp(config);
  },
  E: ({ hiddenSize, intermediateSize, numExperts = 8, ...config }, { outputDeviation }) =>
    mixtureOfExperts({
      hiddenSize,
      intermediateSize: config.moeIntermediateSize ?? intermediateSize,
      numExperts,
      expertsPerToken: config.numExpertsPerTok ?? Math.min(2, numExperts),
      activation: 'swiglu',
      routing: { scores: 'softmax', normalized: true },
      names: { router: 'router.weight', input: 'experts.input', output: 'experts.output' },
      outputDeviation,
    }),
} satisfies Record<string, Build<TokenWiseConfig>>;
