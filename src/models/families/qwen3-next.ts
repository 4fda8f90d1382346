/**
 * `qwen3_next`, `qwen3_5_text` and `qwen3_5_moe_text`: gated delta nets, and gated attention with rotary positions on a quarter of each head
 * in every fourth layer. Norms multiply by 1 + weight. Qwen3-Next has mixtures of experts with a shared expert, and interleaves the
 * projections of its delta net; Qwen3.5 does not interleave, and has MLPs or such mixtures. State of a delta net: `recurrent` [valueHeads,
 * keyHeadDim, valueHeadDim] and `conv` [convKernel - 1, channels].
 */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import { multiply, sigmoid } from '../../graph/index.js';
import {
  attention,
  type GatedDeltaNetLayout,
  gatedDeltaNet,
  gatedMlp,
  LLAMA_MLP,
  linear,
  type Mixer,
  mixtureOfExperts,
  named,
  norm,
  residual,
  together,
} from '../../nn/index.js';
import { defineModel, type StoredNames } from '../model.js';
import {
  common,
  commonParts,
  defineFamily,
  epsilon,
  expectExperts,
  expectSharedHeads,
  type Family,
  headCount,
  headSize,
  LINEAR_OR_FULL,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  llamaNames,
  outputDeviation,
  ropeOf,
  SWIGLU_EXPERTS,
  siluOnly,
  size,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

const keys = {
  ...common,
  ...attentionKeys,
  num_attention_heads: headCount.default(16),
  num_key_value_heads: headCount.nullable().default(2),
  num_hidden_layers: layerCount,
  head_dim: headSize.default(256),
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-6),
  linear_conv_kernel_dim: headSize.default(4),
  linear_key_head_dim: headSize.default(128),
  linear_value_head_dim: headSize.default(128),
  linear_num_key_heads: headCount.default(16),
  linear_num_value_heads: headCount.default(32),
  layer_types: layerTypes,
  full_attention_interval: layerCount.default(4),
  tie_word_embeddings: z.boolean().default(false),
};

type Keys = z.output<z.ZodObject<typeof keys>>;

function build(
  config: Keys,
  json: Readonly<Record<string, unknown>>,
  layout: GatedDeltaNetLayout,
  feedForwardOf: (index: number, deviation: number) => { letter: string; mixer: Mixer },
  stored: StoredNames,
) {
  const normOptions = { epsilon: config.rms_norm_eps, zeroCentered: true };
  const deviation = outputDeviation(2 * config.num_hidden_layers);
  const plain = attentionFrom(config, deviation);
  const attending = attention({
    ...plain,
    gated: true,
    headNorm: { ...normOptions, names: { query: 'q_norm', key: 'k_norm' } },
    rope: ropeOf(config, plain.headDim, { partial: 0.25 }),
  });
  expectSharedHeads(config.linear_num_value_heads, config.linear_num_key_heads);
  const deltaNet = gatedDeltaNet({
    hiddenSize: config.hidden_size,
    numKeyHeads: config.linear_num_key_heads,
    numValueHeads: config.linear_num_value_heads,
    keyHeadDim: config.linear_key_head_dim,
    valueHeadDim: config.linear_value_head_dim,
    convKernel: config.linear_conv_kernel_dim,
    layout,
    negativeEigenvalues: false,
    normEpsilon: config.rms_norm_eps,
    outputDeviation: deviation,
  });
  const kinds = layerKinds(config.layer_types, config.num_hidden_layers, LINEAR_OR_FULL, (i) =>
    (i + 1) % config.full_attention_interval === 0 ? 'full' : 'linear',
  );
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('norm'),
    layers: kinds.map((kind, i) => {
      const feedForward = feedForwardOf(i, deviation);
      return layer(
        `${kind === 'full' ? '*' : 'G'}${feedForward.letter}`,
        residual([
          norm('input_layernorm', normOptions),
          kind === 'full' ? named('self_attn', attending) : named('linear_attn', deltaNet),
        ]),
        residual([norm('post_attention_layernorm', normOptions), named('mlp', feedForward.mixer)]),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    stored,
  });
}

function mlpOf(config: Keys, intermediateSize: number, deviation: number): Mixer {
  return gatedMlp({
    hiddenSize: config.hidden_size,
    intermediateSize,
    names: LLAMA_MLP,
    outputDeviation: deviation,
  });
}

const mixtureKeys = {
  num_experts_per_tok: headCount.default(10),
  moe_intermediate_size: size.default(512),
  shared_expert_intermediate_size: size.default(512),
};

const nextSchema = z.looseObject({
  ...keys,
  ...mixtureKeys,
  intermediate_size: size.default(5632),
  num_experts: headCount.or(z.literal(0)).default(512),
  norm_topk_prob: z.boolean().default(true),
  decoder_sparse_step: layerCount.default(1),
  mlp_only_layers: z.array(z.number()).nullish(),
});

/** Qwen3-Next. */
export const qwen3Next = defineFamily(['qwen3_next'], nextSchema, (config, json) =>
  build(
    config,
    json,
    'interleaved',
    (i, deviation) => {
      const sparse =
        config.num_experts > 0 &&
        (i + 1) % config.decoder_sparse_step === 0 &&
        !config.mlp_only_layers?.includes(i);
      return sparse
        ? { letter: 'E', mixer: mixtureOf(config, deviation) }
        : { letter: '-', mixer: mlpOf(config, config.intermediate_size, deviation) };
    },
    { ignored: [/^mtp\./] },
  ),
);

interface MixtureKeys extends Keys, z.output<z.ZodObject<typeof mixtureKeys>> {
  num_experts: number;
  norm_topk_prob: boolean;
}

function mixtureOf(config: MixtureKeys, deviation: number): Mixer {
  const { num_experts: numExperts, num_experts_per_tok: expertsPerToken } = config;
  expectExperts(numExperts, expertsPerToken, config.num_hidden_layers, 'num_experts');
  const routed = mixtureOfExperts({
    hiddenSize: config.hidden_size,
    intermediateSize: config.moe_intermediate_size,
    numExperts,
    expertsPerToken,
    activation: 'swiglu',
    routing: { scores: 'softmax', normalized: config.norm_topk_prob },
    names: { router: 'gate.weight', ...SWIGLU_EXPERTS },
    outputDeviation: deviation,
  });
  const shared = named('shared_expert', mlpOf(config, config.shared_expert_intermediate_size, deviation));
  return together(routed, {
    state: [],
    forward(parameters, x, context) {
      const open = sigmoid(parameters.within('shared_expert_gate', (p) => linear(p, x, 1)));
      const { output, state } = shared.forward(parameters, x, context);
      return { output: multiply(output, open), state };
    },
  });
}

/** Multimodal checkpoints nest the language model's config one level deeper. */
const STORED_35: StoredNames = {
  aliases: (name) => [name.replace(/^model\./, 'model.language_model.')],
  ignored: [/^mtp\./, /^model\.visual\./],
};

const denseSchema = z.looseObject({
  ...keys,
  num_key_value_heads: headCount.nullable().default(4),
  intermediate_size: size.default(12_288),
});

/** The text model of Qwen3.5, dense. */
export const qwen35 = defineFamily(['qwen3_5_text'], denseSchema, (config, json) =>
  build(
    config,
    json,
    'joined',
    (_, deviation) => ({ letter: '-', mixer: mlpOf(config, config.intermediate_size, deviation) }),
    STORED_35,
  ),
);

const sparseSchema = z.looseObject({
  ...keys,
  ...mixtureKeys,
  num_experts_per_tok: headCount.default(8),
  num_experts: headCount.default(256),
});

/** The text model of Qwen3.5, with mixtures of experts. */
export const qwen35Moe = defineFamily(['qwen3_5_moe_text'], sparseSchema, (config, json) =>
  build(
    config,
    json,
    'joined',
    (_, deviation) => ({ letter: 'E', mixer: mixtureOf({ ...config, norm_topk_prob: true }, deviation) }),
    STORED_35,
  ),
);

/** The language model of a multimodal checkpoint. */
function languageModelOf(modelType: string, family: Family): Family {
  return {
    modelTypes: [modelType],
    read(json, path) {
      const { text_config: text } = json;
      if (typeof text !== 'object' || text === null) {
        throw new ConfigError(`${path} has no text_config: that of the language model`);
      }
      const model = family.read({ tie_word_embeddings: json.tie_word_embeddings, ...text }, path);
      return { ...model, modelType, json };
    },
  };
}

/** Multimodal Qwen3.5, of which only the text model is loaded. */
export const qwen35Multimodal = languageModelOf('qwen3_5', qwen35);
/** The same with mixtures of experts. */
export const qwen35MoeMultimodal = languageModelOf('qwen3_5_moe', qwen35Moe);
