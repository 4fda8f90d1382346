/** Configs of published models, whose cost with random weights equals that of the real ones. */
import { type Model, modelFromConfig } from '../models/index.js';

interface Shape {
  hiddenSize: number;
  layers: number;
  attentionLayers: readonly number[];
  mambaHeads: number;
  mambaHeadDim: number;
  headDim: number;
  intermediateSize: number;
  vocabSize: number;
  /** A third of the heads by default. */
  keyValueHeads?: number;
  /** In addition to the MLP of every layer. */
  experts?: { count: number; perToken: number; size: number };
}

/** Granite 4.0-H 350M. */
export const GRANITE_350M: Shape = {
  hiddenSize: 768,
  layers: 32,
  attentionLayers: [10, 13, 17, 27],
  mambaHeads: 48,
  mambaHeadDim: 32,
  headDim: 64,
  intermediateSize: 2048,
  vocabSize: 100_352,
};

/** Granite 4.0-H 1B. */
export const GRANITE_1B: Shape = {
  hiddenSize: 1536,
  layers: 40,
  attentionLayers: [5, 15, 25, 35],
  mambaHeads: 48,
  mambaHeadDim: 64,
  headDim: 128,
  intermediateSize: 4096,
  vocabSize: 100_352,
};

/** Granite 4.0-H Micro, with 3B parameters. */
export const GRANITE_3B: Shape = {
  hiddenSize: 2048,
  layers: 40,
  attentionLayers: [5, 15, 25, 35],
  mambaHeads: 64,
  mambaHeadDim: 64,
  headDim: 64,
  keyValueHeads: 8,
  intermediateSize: 8192,
  vocabSize: 100_352,
};

/** The first six layers of Granite 4.0-H Tiny, with 7B parameters. */
const GRANITE_MOE: Shape = {
  hiddenSize: 1536,
  layers: 6,
  attentionLayers: [5],
  mambaHeads: 48,
  mambaHeadDim: 64,
  headDim: 128,
  intermediateSize: 1024,
  vocabSize: 100_352,
  experts: { count: 64, perToken: 6, size: 512 },
};

/** The model of a shape, without weights. */
export function graniteModel(shape: Shape): Model {
  const numHeads = shape.hiddenSize / shape.headDim;
  return modelFromConfig(
    {
      architectures: ['GraniteMoeHybridForCausalLM'],
      model_type: 'granitemoehybrid',
      vocab_size: shape.vocabSize,
      hidden_size: shape.hiddenSize,
      num_hidden_layers: shape.layers,
      layer_types: Array.from({ length: shape.layers }, (_, i) =>
        shape.attentionLayers.includes(i) ? 'attention' : 'mamba',
      ),
      num_attention_heads: numHeads,
      num_key_value_heads: shape.keyValueHeads ?? numHeads / 3,
      attention_multiplier: 1 / shape.headDim,
      embedding_multiplier: 12,
      residual_multiplier: 0.246,
      logits_scaling: 3,
      shared_intermediate_size: shape.intermediateSize,
      num_local_experts: shape.experts?.count ?? 0,
      num_experts_per_tok: shape.experts?.perToken ?? 0,
      intermediate_size: shape.experts?.size,
      mamba_n_heads: shape.mambaHeads,
      mamba_d_head: shape.mambaHeadDim,
      mamba_d_state: 128,
      mamba_expand: (shape.mambaHeads * shape.mambaHeadDim) / shape.hiddenSize,
      position_embedding_type: 'nope',
      rms_norm_eps: 1e-5,
      max_position_embeddings: 32_768,
      tie_word_embeddings: true,
      eos_token_id: 0,
    },
    'the benchmark',
  );
}

/** SmolLM2-360M: a transformer, whose state grows with every token. */
function smolModel(): Model {
  return modelFromConfig(
    {
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      vocab_size: 49_152,
      hidden_size: 960,
      num_hidden_layers: 32,
      num_attention_heads: 15,
      num_key_value_heads: 5,
      intermediate_size: 2560,
      rms_norm_eps: 1e-5,
      rope_theta: 100_000,
      max_position_embeddings: 8192,
      tie_word_embeddings: true,
      eos_token_id: 0,
    },
    'the benchmark',
  );
}

/** The shapes by the names that peers use too. */
export const SHAPES = {
  'granite-350m': () => graniteModel(GRANITE_350M),
  'granite-1b': () => graniteModel(GRANITE_1B),
  'granite-moe': () => graniteModel(GRANITE_MOE),
  'smollm2-360m': smolModel,
} as const;

/** The name of a published shape. */
export type ShapeName = keyof typeof SHAPES;
