/**
 * `rwkv7` (Peng et al., 2025, arXiv 2503.14456) in the format of flash-linear-attention: blocks of time mixing and channel mixing with layer
 * norms, the first block with an extra norm before it. The values of the first layer are mixed into those of all others. State of a layer:
 * `attn.shift` and `ffn.shift` [1, hidden_size], the last token, and `attn.recurrent` [num_heads, head_dim, head_dim].
 *
 * transformers has no class for it. The test compares with a direct implementation of fla's layers/rwkv7.py and models/rwkv7 in float64.
 */
import { z } from 'zod';
import {
  channelMix,
  type LayerNormOptions,
  named,
  norm,
  residual,
  rwkv7 as timeMix,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  activation,
  common,
  commonParts,
  computedSize,
  defineFamily,
  eosTokens,
  epsilon,
  expectConfig,
  headCount,
  headSize,
  headSizeOf,
  layer,
  layerCount,
  outputDeviation,
  size,
} from './family.js';

const NONE = 'layers of attention among those of RWKV-7 are not read';

const schema = z.looseObject({
  ...common,
  eos_token_id: eosTokens(2),
  num_hidden_layers: layerCount.default(24),
  hidden_ratio: z.number().positive().nullish(),
  intermediate_size: size.nullish(),
  hidden_act: activation.prefault('sqrelu'),
  head_dim: headSize.nullish(),
  num_heads: headCount.nullish(),
  /** The total width of all heads, one for all layers or one for each. */
  value_dim: size.or(z.array(size)).nullish(),
  decay_low_rank_dim: size.nullish(),
  gate_low_rank_dim: size.nullish(),
  a_low_rank_dim: size.nullish(),
  v_low_rank_dim: size.nullish(),
  norm_first: z.boolean().default(true),
  norm_bias: z.boolean().default(true),
  norm_eps: epsilon.default(1e-5),
  /** Decides how keys are normalized. */
  fuse_norm: z.boolean().default(true),
  attn: z.null(NONE).optional(),
  tie_word_embeddings: z.boolean().default(false),
});

type Config = z.output<typeof schema>;

/** The epsilon of fla's fused L2 norm of keys. */
const KEY_EPSILON = 1e-6;

/** RWKV-7. */
export const rwkv7 = defineFamily(['rwkv7'], schema, (config, json) => {
  const { hidden_size: hiddenSize, num_hidden_layers: count } = config;
  const normOptions: LayerNormOptions = {
    centered: true,
    epsilon: config.norm_eps,
    bias: config.norm_bias,
  };
  const heads = headsOf(config);
  const deviation = outputDeviation(2 * count);
  return defineModel({
    ...commonParts(config, json),
    names: {
      embeddings: 'model.embeddings',
      layers: 'model.layers',
      finalNorm: 'model.norm',
      head: 'lm_head',
    },
    layers: Array.from({ length: count }, (_, i) => {
      const place = { layer: i, numLayers: count, outputDeviation: deviation };
      const blocks = [
        residual([
          norm('attn_norm', normOptions),
          named(
            'attn',
            timeMix({
              ...place,
              ...heads,
              hiddenSize,
              ...ranksOf(config, heads.headDim),
              normEpsilon: config.norm_eps,
              keyEpsilon: config.fuse_norm ? KEY_EPSILON : undefined,
            }),
          ),
        ]),
        residual([
          norm('ffn_norm', normOptions),
          named(
            'ffn',
            channelMix({
              ...place,
              hiddenSize,
              intermediateSize: intermediateSizeOf(config),
              activation: config.hidden_act,
            }),
          ),
        ]),
      ];
      return config.norm_first && i === 0
        ? layer('V-', norm('pre_norm', normOptions), ...blocks)
        : layer('V-', ...blocks);
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    stored: {
      // Converted checkpoints may contain the first layer's unused map for mixing values.
      ignored: [/^model\.layers\.0\.attn\.v_lora\./],
    },
  });
});

function headsOf({ hidden_size: hiddenSize, value_dim: values, ...config }: Config) {
  const headDim =
    config.head_dim ??
    (config.num_heads == null
      ? 64
      : headSizeOf(['hidden_size', hiddenSize], ['num_heads', config.num_heads]));
  const widths = values == null ? [hiddenSize] : [values].flat();
  expectConfig(
    widths.length === 1 || widths.length === config.num_hidden_layers,
    `value_dim has ${widths.length} entries, but num_hidden_layers is ${config.num_hidden_layers}`,
  );
  expectConfig(
    widths.every((width) => width === widths[0]),
    `value_dim is ${[...new Set(widths)].join(' and ')}, but the first layer's values are mixed into those of all others: it must be one number`,
  );
  const numHeads = headSizeOf(['hidden_size', hiddenSize], ['head_dim', headDim]);
  return { headDim, valueHeadDim: headSizeOf(['value_dim', widths[0]!], ['the number of heads', numHeads]) };
}

/** fla's default ranks for absent keys, and ranks derived from the sizes for null. */
function ranksOf(config: Config, headDim: number) {
  const rank = (given: number | null | undefined, otherwise: number, factor: number): number =>
    given === undefined
      ? otherwise
      : (given ?? Math.max(32, 32 * roundEven((factor * Math.sqrt(config.hidden_size)) / 32)));
  const larger = headDim / 64;
  return {
    decayRank: rank(config.decay_low_rank_dim, 64, 2.5 * larger),
    gateRank: rank(config.gate_low_rank_dim, 128, 5),
    rateRank: rank(config.a_low_rank_dim, 64, 2.5 * larger),
    valueRank: rank(config.v_low_rank_dim, 16, 1.7 * larger),
  };
}

/** Python's round: ties to even. */
function roundEven(x: number): number {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

function intermediateSizeOf(config: Config): number {
  if (config.intermediate_size != null) return config.intermediate_size;
  const ratio = config.hidden_ratio ?? 4;
  const exact = Math.trunc(config.hidden_size * ratio);
  return computedSize(
    32 * Math.ceil(exact / 32),
    `hidden_ratio (${ratio}) times hidden_size (${config.hidden_size})`,
  );
}
