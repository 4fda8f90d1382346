/**
 * `llama` and `qwen3`: transformers, for comparison. Qwen3 has norms on query and key heads, no MLP bias, and optional sliding windows in
 * some layers. State: keys and values [keyValueHeads, past, headDim] in each layer.
 */
import { z } from 'zod';
import {
  type AttentionConfig,
  attention,
  gatedMlp,
  type HeadNorm,
  LLAMA_MLP,
  named,
  norm,
  residual,
  slidingWindowAttention,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  activation,
  common,
  commonParts,
  defineFamily,
  epsilon,
  expectConfig,
  headCount,
  headSize,
  headSizeOf,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  length,
  llamaNames,
  outputDeviation,
  ropeKeys,
  ropeOf,
  size,
} from './family.js';

/** The keys of a config that describe attention with grouped heads. */
export const attentionKeys = {
  num_attention_heads: headCount,
  num_key_value_heads: headCount.nullish(),
  head_dim: headSize.nullish(),
  attention_bias: z.boolean().default(false),
  ...ropeKeys,
};

interface AttentionKeys {
  hidden_size: number;
  num_attention_heads: number;
  num_key_value_heads?: number | null | undefined;
  head_dim?: number | null | undefined;
  attention_bias?: boolean;
}

/** Softmax attention with the common keys, without positions. */
export function attentionFrom(config: AttentionKeys, deviation: number): AttentionConfig {
  const { hidden_size: hiddenSize, num_attention_heads: numHeads } = config;
  const numKeyValueHeads = config.num_key_value_heads ?? numHeads;
  expectConfig(
    numHeads % numKeyValueHeads === 0,
    `num_attention_heads (${numHeads}) must be a multiple of num_key_value_heads (${numKeyValueHeads})`,
  );
  const headDim =
    config.head_dim ?? headSizeOf(['hidden_size', hiddenSize], ['num_attention_heads', numHeads]);
  const bias = config.attention_bias ?? false;
  return {
    hiddenSize,
    numHeads,
    numKeyValueHeads,
    headDim,
    inputBias: bias,
    outputBias: bias,
    outputDeviation: deviation,
  };
}

const keys = {
  ...common,
  ...attentionKeys,
  num_hidden_layers: layerCount,
  intermediate_size: size,
  hidden_act: activation.prefault('silu'),
  rms_norm_eps: epsilon.default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
};

interface LlamaKeys extends z.output<z.ZodObject<typeof keys>> {
  /** For each layer, the size of its sliding window, if it has one. */
  windows?: readonly (number | undefined)[];
  headNorm?: HeadNorm;
}

function build(config: LlamaKeys, json: Readonly<Record<string, unknown>>) {
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(2 * config.num_hidden_layers);
  const plain = attentionFrom(config, deviation);
  const mixer: AttentionConfig = {
    ...plain,
    rope: ropeOf(config, plain.headDim),
    ...(config.headNorm && { headNorm: config.headNorm }),
  };
  const feedForward = gatedMlp({
    hiddenSize: config.hidden_size,
    intermediateSize: config.intermediate_size,
    activation: config.hidden_act,
    bias: config.mlp_bias,
    names: LLAMA_MLP,
    outputDeviation: deviation,
  });
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('norm'),
    layers: Array.from({ length: config.num_hidden_layers }, (_, i) => {
      const window = config.windows?.[i];
      const attending =
        window === undefined ? attention(mixer) : slidingWindowAttention({ ...mixer, window });
      return layer(
        window === undefined ? '*-' : 'W-',
        residual([norm('input_layernorm', normOptions), named('self_attn', attending)]),
        residual([norm('post_attention_layernorm', normOptions), named('mlp', feedForward)]),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
  });
}

/** Llama. */
export const llama = defineFamily(['llama'], z.looseObject(keys), build);

const qwen3Schema = z.looseObject({
  ...keys,
  head_dim: headSize.default(128),
  use_sliding_window: z.boolean().nullish(),
  sliding_window: length.nullish(),
  max_window_layers: z.number().int().nonnegative().default(28),
  layer_types: layerTypes,
});

/** Qwen3, dense. */
export const qwen3 = defineFamily(['qwen3'], qwen3Schema, (config, json) => {
  const window = config.use_sliding_window ? (config.sliding_window ?? undefined) : undefined;
  const kinds = layerKinds(
    config.layer_types,
    config.num_hidden_layers,
    { full_attention: 'full', sliding_attention: 'sliding' },
    (i) => (window !== undefined && i >= config.max_window_layers ? 'sliding' : 'full'),
  );
  return build(
    {
      ...config,
      mlp_bias: false,
      windows: kinds.map((kind) => (kind === 'sliding' ? window : undefined)),
      headNorm: { epsilon: config.rms_norm_eps, names: { query: 'q_norm', key: 'k_norm' } },
    },
    json,
  );
});
