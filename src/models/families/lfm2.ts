/**
 * `lfm2`: gated short convolutions with a few layers of attention, whose query and key heads are normed; an MLP in every
 * layer. State of a convolution: its last conv_L_cache - 1 inputs.
 */
import { z } from 'zod';
import { attention, gatedMlp, named, norm, residual, shortConvolution } from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  common,
  commonParts,
  computedSize,
  defineFamily,
  epsilon,
  headSize,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  llamaNames,
  outputDeviation,
  ropeOf,
  size,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

const schema = z.looseObject({
  ...common,
  ...attentionKeys,
  num_hidden_layers: layerCount,
  intermediate_size: size.nullish(),
  block_ff_dim: size.nullish(),
  block_auto_adjust_ff_dim: z.boolean().default(true),
  block_ffn_dim_multiplier: z.number().positive().nullish(),
  block_multiple_of: size.default(256),
  norm_eps: epsilon.default(1e-5),
  conv_L_cache: headSize.default(3),
  conv_bias: z.boolean().default(false),
  layer_types: layerTypes,
  full_attn_idxs: z.array(z.number().int().nonnegative()).nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  tie_embedding: z.boolean().nullish(),
});

export const lfm2 = defineFamily(['lfm2'], schema, (config, json) => {
  const normOptions = { epsilon: config.norm_eps };
  const deviation = outputDeviation(2 * config.num_hidden_layers);
  const plain = attentionFrom({ ...config, attention_bias: false }, deviation);
  const attending = attention({
    ...plain,
    rope: ropeOf(config, plain.headDim, { theta: 1_000_000 }),
    headNorm: { ...normOptions, names: { query: 'q_layernorm', key: 'k_layernorm' } },
    outputName: 'out_proj',
  });
  const convolution = shortConvolution({
    hiddenSize: config.hidden_size,
    convKernel: config.conv_L_cache,
    bias: config.conv_bias,
    outputDeviation: deviation,
  });
  const feedForward = gatedMlp({
    hiddenSize: config.hidden_size,
    intermediateSize: intermediateSizeOf(config),
    names: { gate: 'w1', value: 'w3', output: 'w2' },
    outputDeviation: deviation,
  });
  const kinds = layerKinds(
    config.layer_types,
    config.num_hidden_layers,
    { conv: 'conv', full_attention: 'attention' },
    (i) => ((config.full_attn_idxs?.includes(i) ?? true) ? 'attention' : 'conv'),
  );
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('embedding_norm'),
    layers: kinds.map((kind) =>
      layer(
        kind === 'conv' ? 'C-' : '*-',
        residual([
          norm('operator_norm', normOptions),
          kind === 'conv' ? named('conv', convolution) : named('self_attn', attending),
        ]),
        residual([norm('ffn_norm', normOptions), named('feed_forward', feedForward)]),
      ),
    ),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_embedding ?? config.tie_word_embeddings ?? true,
  });
});

/** The MLPs' width: by default two thirds of what is said, rounded up to a multiple. */
function intermediateSizeOf(config: z.output<typeof schema>): number {
  const said = config.block_ff_dim ?? config.intermediate_size ?? 12_288;
  if (!config.block_auto_adjust_ff_dim) return said;
  const { block_ffn_dim_multiplier: multiplier, block_multiple_of: multiple } = config;
  const adjusted = Math.trunc((multiplier ?? 1) * Math.trunc((2 * said) / 3));
  return computedSize(
    multiple * Math.ceil(adjusted / multiple),
    `intermediate_size (${said}), block_ffn_dim_multiplier (${multiplier}) and block_multiple_of (${multiple})`,
  );
}
