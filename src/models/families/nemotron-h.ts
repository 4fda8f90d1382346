/**
 * `nemotron_h`: blocks x + mixer(norm(x)) in the order of a pattern: Mamba-2 with a norm for each group (`M`), MLP with squared ReLU (`-`),
 * attention without positions (`*`), or a mixture of experts with sigmoid routing (`E`).
 */
import { z } from 'zod';
import { quote } from '../../checkpoint/index.js';
import { ConfigError } from '../../errors.js';
import { relu2 } from '../../graph/index.js';
import {
  attention,
  type Mixer,
  mamba2,
  mixtureOfExperts,
  named,
  norm,
  plainMlp,
  residual,
  together,
} from '../../nn/index.js';
import { defineModel, type Model } from '../model.js';
import {
  activation,
  common,
  commonParts,
  defineFamily,
  epsilon,
  expectConfig,
  expectExperts,
  headCount,
  headSize,
  layer,
  layerCount,
  layerKinds,
  MAMBA_NAMES,
  outputDeviation,
  siluOnly,
  size,
  timeStepLimit,
} from './family.js';
import { groupedRouting, groupedRoutingKeys } from './grouped-routing.js';
import { attentionFrom } from './llama.js';

const schema = z.looseObject({
  ...common,
  hybrid_override_pattern: z.string().max(1000).nullish(),
  layers_block_type: z.array(z.string()).max(1000).nullish(),
  num_hidden_layers: layerCount.nullish(),
  layer_norm_epsilon: epsilon.default(1e-5),
  tie_word_embeddings: z.boolean().default(false),

  num_attention_heads: headCount.default(32),
  num_key_value_heads: headCount.nullish(),
  head_dim: headSize.nullish(),
  attention_head_dim: headSize.nullish(),

  intermediate_size: size.default(21504),
  mlp_hidden_act: activation.prefault('relu2'),
  mlp_bias: z.boolean().default(false),

  mamba_num_heads: headCount.default(128),
  mamba_head_dim: headSize.default(64),
  mamba_hidden_act: siluOnly,
  ssm_state_size: headSize.default(128),
  n_groups: headCount.default(8),
  conv_kernel: headSize.default(4),
  use_conv_bias: z.boolean().default(true),
  use_bias: z.boolean().default(false),
  mamba_proj_bias: z.boolean().default(false),
  time_step_limit: timeStepLimit,

  n_routed_experts: headCount.default(8),
  num_experts_per_tok: headCount.default(2),
  moe_intermediate_size: size.default(7688),
  moe_shared_expert_intermediate_size: size.default(7688),
  moe_latent_size: size.nullish(),
  ...groupedRoutingKeys,
});

type Config = z.output<typeof schema>;

const LETTERS = {
  linear_attention: 'M',
  mamba: 'M',
  full_attention: '*',
  attention: '*',
  mlp: '-',
  moe: 'E',
} as const;

/** Nemotron-H. */
export const nemotronH = defineFamily(['nemotron_h'], schema, (config, json): Model => {
  const letters = lettersOf(config);
  const deviation = outputDeviation(letters.length);
  const normOptions = { epsilon: config.layer_norm_epsilon };
  return defineModel({
    ...commonParts(config, json),
    names: MAMBA_NAMES,
    layers: letters.map((letter) =>
      layer(
        letter,
        residual([
          norm('norm', normOptions),
          named('mixer', mixerOf(letter, config, letters.length, deviation)),
        ]),
      ),
    ),
    finalNorm: normOptions,
    // transformers keeps a separate head even if the config ties it; other programs then store only the embeddings.
    tieWordEmbeddings: false,
    stored: {
      aliases: (name) =>
        config.tie_word_embeddings && name === 'lm_head.weight'
          ? ['backbone.embeddings.weight', 'model.embeddings.weight']
          : [name.replace(/^backbone\./, 'model.')],
      ignored: [/^mtp\./],
      loaded: (name) => name.replace(/^backbone\./, 'model.'),
    },
  });
});

function lettersOf(config: Config): string[] {
  const { layers_block_type: kinds, hybrid_override_pattern: pattern } = config;
  const count = kinds?.length ?? pattern?.length ?? 0;
  expectConfig(count > 0, 'layers_block_type or hybrid_override_pattern is missing');
  const said = config.num_hidden_layers ?? count;
  expectConfig(said === count, `num_hidden_layers is ${said}, but the layers that are named are ${count}`);
  return layerKinds<string>(kinds, count, LETTERS, (i) => pattern![i]!, 'layers_block_type');
}

function mixerOf(letter: string, config: Config, letters: number, deviation: number): Mixer {
  const { hidden_size: hiddenSize } = config;
  switch (letter) {
    case 'M':
      expectConfig(
        config.mamba_num_heads % config.n_groups === 0,
        `mamba_num_heads (${config.mamba_num_heads}) must be a multiple of n_groups (${config.n_groups})`,
      );
      return mamba2({
        hiddenSize,
        numHeads: config.mamba_num_heads,
        headDim: config.mamba_head_dim,
        stateSize: config.ssm_state_size,
        numGroups: config.n_groups,
        convKernel: config.conv_kernel,
        convBias: config.use_conv_bias,
        projectionBias: config.use_bias,
        timeStepLimit: config.time_step_limit,
        normGroups: config.n_groups,
        normEpsilon: config.layer_norm_epsilon,
        outputDeviation: deviation,
      });
    case '*':
      return attention(
        attentionFrom(
          // transformers gives it no biases; attention_bias is ignored.
          { ...config, head_dim: config.head_dim ?? config.attention_head_dim ?? 128, attention_bias: false },
          deviation,
        ),
      );
    case '-':
      return mlpOf(config, config.intermediate_size, deviation);
    case 'E':
      return mixtureOf(config, letters, deviation);
    default:
      throw new ConfigError(`hybrid_override_pattern has ${quote(letter)}; known are M, *, - and E`);
  }
}

function mlpOf(config: Config, intermediateSize: number, deviation: number): Mixer {
  return plainMlp({
    hiddenSize: config.hidden_size,
    intermediateSize,
    activation: config.mlp_hidden_act,
    bias: config.mlp_bias,
    outputDeviation: deviation,
  });
}

function mixtureOf(config: Config, layers: number, deviation: number): Mixer {
  const { hidden_size: hiddenSize, n_routed_experts: numExperts, moe_latent_size: latent } = config;
  expectConfig(config.mlp_hidden_act === relu2, 'mlp_hidden_act of experts must be relu2');
  expectExperts(numExperts, config.num_experts_per_tok, layers, 'n_routed_experts');
  const routed = mixtureOfExperts({
    hiddenSize,
    ...(latent && {
      latent: { size: latent, bias: config.mlp_bias, input: 'fc1_latent_proj', output: 'fc2_latent_proj' },
    }),
    intermediateSize: config.moe_intermediate_size,
    numExperts,
    expertsPerToken: config.num_experts_per_tok,
    activation: 'relu2',
    routing: groupedRouting(config, ['n_routed_experts', numExperts], config.num_experts_per_tok),
    names: {
      router: 'gate.weight',
      input: 'experts.up_proj',
      output: 'experts.down_proj',
      expert: (i) => ({
        inputs: [`experts.${i}.up_proj.weight`],
        output: `experts.${i}.down_proj.weight`,
      }),
    },
    outputDeviation: deviation,
  });
  const shared = mlpOf(config, config.moe_shared_expert_intermediate_size, deviation);
  return together(routed, named('shared_experts', shared));
}
