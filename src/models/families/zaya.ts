/**
 * `zaya` (ZAYA1, Zyphra 2025): attention with short convolutions on its heads, and in every layer a mixture of experts with one expert, or
 * none, for each token. The router is a small network whose input is mixed with that of the previous layer's router. Branches and residual
 * stream have learned scales and biases.
 */
import { z } from 'zod';
import { add, gelu, multiply, slice, softmax, type Tensor } from '../../graph/index.js';
import {
  type AttentionConfig,
  attention,
  chain,
  chosenOf,
  constantly,
  convolvedHeads,
  linear,
  type Mixer,
  mixtureOfExperts,
  named,
  norm,
  type Parameters,
  type Router,
  rmsNorm,
  slidingWindowAttention,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  common,
  commonParts,
  defineFamily,
  eosTokens,
  epsilon,
  expectConfig,
  headCount,
  headSize,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  length,
  llamaNames,
  outputDeviation,
  ropeOf,
  SWIGLU_EXPERTS,
  siluOnly,
  size,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

const schema = z.looseObject({
  ...common,
  ...attentionKeys,
  eos_token_id: eosTokens(106),
  num_hidden_layers: layerCount,
  num_attention_heads: headCount.default(8),
  num_key_value_heads: headCount.nullable().default(2),
  head_dim: headSize.default(128),
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-5),
  layer_types: layerTypes,
  sliding_window: length.nullish(),
  cca_time0: headSize.default(2),
  cca_time1: headSize.default(2),
  moe_intermediate_size: size.default(2048),
  num_experts: headCount.default(16),
  num_experts_per_tok: z.literal(1).default(1),
  router_hidden_size: size.default(256),
  lm_head_bias: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),
});

type Config = z.output<typeof schema>;

const THETA = { hybrid: 5_000_000, hybrid_sliding: 10_000 } as const;
type Kind = keyof typeof THETA;

/** ZAYA1. */
export const zaya = defineFamily(['zaya'], schema, (config, json) => {
  const { num_hidden_layers: count, sliding_window: window } = config;
  const deviation = outputDeviation(2 * count);
  const normOptions = { epsilon: config.rms_norm_eps };
  const kinds = layerKinds(
    config.layer_types,
    count,
    { hybrid: 'hybrid', hybrid_sliding: 'hybrid_sliding' },
    (): Kind => 'hybrid',
  );
  const attending: Partial<Record<Kind, Mixer>> = {};
  for (const kind of new Set(kinds)) {
    const heads = attentionOf(config, kind, deviation);
    expectConfig(
      kind === 'hybrid' || window != null,
      'layer_types has hybrid_sliding, but sliding_window is missing',
    );
    attending[kind] =
      kind === 'hybrid' ? attention(heads) : slidingWindowAttention({ ...heads, window: window! });
  }
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('norm'),
    layers: kinds.map((kind, i) =>
      layer(
        kind === 'hybrid' ? '*E' : 'WE',
        scaledResidual(
          'post_attention_residual_scale',
          norm('input_layernorm', normOptions),
          named('self_attn', attending[kind]!),
        ),
        scaledResidual(
          'post_mlp_residual_scale',
          norm('post_attention_layernorm', normOptions),
          named('mlp', mixtureOf(config, i, deviation)),
        ),
      ),
    ),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    headBias: config.lm_head_bias,
    finishEmbeddings: (parameters, embeddings) =>
      parameters.within('model', (p) => affine(p, 'input_hidden_states', embeddings)),
  });
});

function attentionOf(config: Config, kind: Kind, deviation: number): AttentionConfig {
  const plain = attentionFrom(config, deviation);
  const given = config.rope_parameters?.[kind] as Readonly<Record<string, unknown>> | null | undefined;
  const defaults = { theta: THETA[kind], partial: 0.5 };
  const heads = {
    ...plain,
    rope: ropeOf({ ...config, rope_parameters: given }, plain.headDim, defaults),
    depthwiseKernel: config.cca_time0,
    groupedKernel: config.cca_time1,
  };
  expectConfig(
    (plain.numKeyValueHeads * plain.headDim) % 2 === 0,
    `num_key_value_heads (${plain.numKeyValueHeads}) times head_dim (${plain.headDim}) must be even: half of the values are delayed`,
  );
  return { ...heads, heads: convolvedHeads(heads) };
}

/** (x + NAME_bias) * NAME_scale */
function affine(parameters: Parameters, name: string, x: Tensor): Tensor {
  const width = x.shape.at(-1) as number;
  const bias = parameters.get(`${name}_bias`, [width], constantly(0));
  return multiply(add(x, bias), parameters.get(`${name}_scale`, [width], constantly(1)));
}

/** The sum of x and the mixer's output, each with a bias and a scale for each channel. */
function scaledResidual(name: string, ...mixers: readonly Mixer[]): Mixer {
  const branch = chain(...mixers);
  return {
    state: branch.state,
    forward(parameters, x, context) {
      const { output, state } = branch.forward(parameters, x, context);
      const sum = parameters.within(name, (p) =>
        add(affine(p, 'hidden_states', output), affine(p, 'residual', x)),
      );
      return { output: sum, state };
    },
  };
}

function mixtureOf(config: Config, index: number, deviation: number): Mixer {
  return mixtureOfExperts({
    hiddenSize: config.hidden_size,
    intermediateSize: config.moe_intermediate_size,
    numExperts: config.num_experts,
    expertsPerToken: 1,
    activation: 'swiglu',
    routing: routerOf(config, index),
    names: SWIGLU_EXPERTS,
    outputDeviation: deviation,
  });
}

/** The hidden state that a router passes on to that of the next layer. */
const ROUTED = 'zaya router';

function routerOf(config: Config, index: number): Router {
  const { num_experts: numExperts, router_hidden_size: width } = config;
  return (parameters, x, { carried }) =>
    parameters.within('gate', (gate) => {
      const to = (name: string, from: Tensor, outputs: number, bias = true): Tensor =>
        gate.within(name, (p) => linear(p, from, outputs, { bias }));
      const own = to('down_proj', x, width);
      const before = index > 0 ? carried?.get(ROUTED) : undefined;
      const states = before
        ? add(own, multiply(before, gate.get('router_states_scale', [width], constantly(1))))
        : own;
      carried?.set(ROUTED, states);
      const normed = gate.within('router_mlp.norm', (p) =>
        rmsNorm(p, states, { epsilon: config.rms_norm_eps }),
      );
      const first = gelu(to('router_mlp.fc1', normed, width));
      const second = gelu(to('router_mlp.fc2', first, width));
      // The last class means no expert.
      const shares = softmax(to('router_mlp.out_proj', second, numExperts + 1, false));
      const bias = gate.get('balancing_biases', [numExperts + 1], constantly(0), { decay: false });
      const chosen = multiply(shares, chosenOf(add(shares, bias), 1));
      return slice(chosen, 1, 0, numExperts);
    });
}
