/**
 * `granitemoehybrid` (Granite 4.0-H): Mamba-2 layers and a few attention layers, mostly without positions; an MLP in every layer, in the
 * larger models with a mixture of experts in parallel. Compared to Bamba it has four multipliers and another MLP, and its attention is
 * scaled by `attention_multiplier`.
 */
import { z } from 'zod';
import { multiply } from '../../graph/index.js';
import {
  attention,
  gatedMlp,
  type Mixer,
  mamba2,
  mixtureOfExperts,
  named,
  norm,
  residual,
  together,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import { mambaFrom, mambaKeys } from './bamba.js';
import {
  common,
  commonParts,
  defineFamily,
  epsilon,
  expectConfig,
  expectExperts,
  factor,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  llamaNames,
  MAMBA_OR_ATTENTION,
  outputDeviation,
  ropeOf,
  siluOnly,
  size,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

const count = z.number().int().nonnegative().max(10_000).nullish();

const schema = z.looseObject({
  ...common,
  ...attentionKeys,
  ...mambaKeys,
  num_hidden_layers: layerCount,
  intermediate_size: size.nullish(),
  shared_intermediate_size: size.default(1024),
  num_local_experts: count,
  num_experts_per_tok: count,
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-6),
  layer_types: layerTypes,
  position_embedding_type: z.string().nullish(),
  embedding_multiplier: factor.nullish(),
  logits_scaling: factor.nullish(),
  residual_multiplier: factor.nullish(),
  attention_multiplier: factor.nullish(),
  tie_word_embeddings: z.boolean().default(false),
});

/** Granite 4.0-H. */
export const granitemoehybrid = defineFamily(['granitemoehybrid'], schema, (config, json) => {
  const { hidden_size: hiddenSize } = config;
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(2 * config.num_hidden_layers);
  const plain = attentionFrom(config, deviation);
  const attending = attention({
    ...plain,
    scale: config.attention_multiplier ?? 1,
    rope: config.position_embedding_type === 'rope' ? ropeOf(config, plain.headDim) : undefined,
  });
  const mamba = mamba2(mambaFrom(config, deviation));
  const feedForward = feedForwardOf(config, hiddenSize, deviation);
  const kinds = layerKinds(config.layer_types, config.num_hidden_layers, MAMBA_OR_ATTENTION, () => 'mamba');
  const scaling = config.logits_scaling ?? 1;
  expectConfig(scaling !== 0, 'logits_scaling is 0');
  const branch = config.residual_multiplier ?? 1;
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('norm'),
    layers: kinds.map((kind) =>
      layer(
        `${kind === 'attention' ? '*' : 'M'}${config.num_local_experts ? 'E' : '-'}`,
        residual(
          [
            norm('input_layernorm', normOptions),
            kind === 'attention' ? named('self_attn', attending) : named('mamba', mamba),
          ],
          branch,
        ),
        residual([norm('post_attention_layernorm', normOptions), feedForward], branch),
      ),
    ),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    embeddingFactor: config.embedding_multiplier ?? 1,
    ...(scaling !== 1 && { finishLogits: (logits) => multiply(logits, 1 / scaling) }),
  });
});

function feedForwardOf(config: z.output<typeof schema>, hiddenSize: number, deviation: number): Mixer {
  const names = { input: 'input_linear', output: 'output_linear' };
  const shared = named(
    'shared_mlp',
    gatedMlp({
      hiddenSize,
      intermediateSize: config.shared_intermediate_size,
      names,
      outputDeviation: deviation,
    }),
  );
  const numExperts = config.num_local_experts ?? 0;
  if (numExperts === 0) return shared;
  const expertsPerToken = config.num_experts_per_tok ?? 2;
  expectExperts(numExperts, expertsPerToken, config.num_hidden_layers, 'num_local_experts');
  expectConfig(config.intermediate_size != null, "intermediate_size, the experts' width, is missing");
  const mixture = mixtureOfExperts({
    hiddenSize,
    intermediateSize: config.intermediate_size!,
    numExperts,
    expertsPerToken,
    activation: 'swiglu',
    // The softmax over the selected logits equals the softmax over all, renormalised.
    routing: { scores: 'softmax', normalized: true },
    names: {
      router: 'router.layer.weight',
      input: 'input_linear.weight',
      output: 'output_linear.weight',
    },
    outputDeviation: deviation,
  });
  return together(named('block_sparse_moe', mixture), shared);
}
