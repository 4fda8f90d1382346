/**
 * `recurrent_gemma` (Griffin, De et al., 2024): gated linear recurrent units, two for each layer of sliding-window
 * attention, and a gated MLP of half the stated width. Norms multiply by 1 + weight; logits are capped by a tanh.
 * State of a recurrent layer: `rg_lru` [width] and `conv` [convKernel - 1, width].
 */
import { z } from 'zod';
import { geluTanh, multiply, tanh } from '../../graph/index.js';
import {
  gatedMlp,
  LLAMA_MLP,
  named,
  norm,
  recurrentBlock,
  residual,
  slidingWindowAttention,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  activation,
  common,
  commonParts,
  computedSize,
  defineFamily,
  epsilon,
  expectConfig,
  headSize,
  layer,
  layerCount,
  length,
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
  intermediate_size: size,
  lru_width: size.nullish(),
  attention_window_size: length.default(2048),
  conv1d_width: headSize.default(4),
  logits_soft_cap: z.number().positive().default(30),
  rms_norm_eps: epsilon.default(1e-6),
  hidden_activation: activation.prefault('gelu_pytorch_tanh'),
  block_types: z
    .array(z.enum(['recurrent', 'attention']))
    .min(1)
    .default(['recurrent', 'recurrent', 'attention']),
  tie_word_embeddings: z.boolean().default(true),
});

/** RecurrentGemma. */
export const recurrentGemma = defineFamily(['recurrent_gemma'], schema, (config, json) => {
  const { hidden_size: hiddenSize, num_hidden_layers: count, num_attention_heads: numHeads } = config;
  const normOptions = { epsilon: config.rms_norm_eps, zeroCentered: true };
  const deviation = outputDeviation(2 * count);
  const width = config.lru_width ?? hiddenSize;
  expectConfig(
    width % numHeads === 0,
    `lru_width (${width}) must be a multiple of num_attention_heads (${numHeads})`,
  );
  expectConfig(config.hidden_activation === geluTanh, 'hidden_activation must be gelu_pytorch_tanh');
  const plain = attentionFrom(config, deviation);
  const attending = slidingWindowAttention({
    ...plain,
    outputBias: true,
    rope: ropeOf(config, plain.headDim, { partial: 0.5 }),
    window: config.attention_window_size,
  });
  const recurrent = recurrentBlock({
    hiddenSize,
    lruWidth: width,
    numBlocks: numHeads,
    convKernel: config.conv1d_width,
    outputDeviation: deviation,
  });
  const feedForward = gatedMlp({
    hiddenSize,
    intermediateSize: computedSize(
      Math.trunc(config.intermediate_size / 2),
      `half of intermediate_size (${config.intermediate_size})`,
    ),
    activation: config.hidden_activation,
    bias: true,
    names: LLAMA_MLP,
    outputDeviation: deviation,
  });
  const cap = config.logits_soft_cap;
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('final_norm'),
    layers: Array.from({ length: count }, (_, i) => {
      const kind = config.block_types[i % config.block_types.length];
      return layer(
        kind === 'attention' ? 'W-' : 'R-',
        residual([
          norm('temporal_pre_norm', normOptions),
          named('temporal_block', kind === 'attention' ? attending : recurrent),
        ]),
        residual([norm('channel_pre_norm', normOptions), named('mlp_block', feedForward)]),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    embeddingFactor: bfloat16(Math.sqrt(hiddenSize)),
    finishLogits: (logits) => multiply(tanh(multiply(logits, 1 / cap)), cap),
  });
});

/** Rounds to the nearest bfloat16 (ties to even), the precision of the embeddings' factor in training. */
function bfloat16(value: number): number {
  const bits = new Uint32Array(new Float32Array([value]).buffer);
  bits[0] = ((bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000) >>> 0;
  return new Float32Array(bits.buffer)[0]!;
}
