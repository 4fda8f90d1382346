/**
 * `zamba2`: Mamba-2 layers, some of which are preceded by a transformer block. There are only a few such blocks, which are shared in turn. A
 * block reads the hidden state concatenated with the embeddings (twice the width), has low-rank adapters for each use, and its output is
 * projected and added to the input of the layer's Mamba-2.
 */
import { z } from 'zod';
import { add, concat, multiply, split, type Tensor } from '../../graph/index.js';
import {
  attention,
  chain,
  linear,
  type Mixer,
  mamba2,
  named,
  norm,
  type Parameters,
  placed,
  residual,
  stateless,
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
  innerWidth,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  llamaNames,
  MAMBA_OR_ATTENTION,
  outputDeviation,
  ropeKeys,
  ropeOf,
  size,
} from './family.js';
import { attentionFrom } from './llama.js';

const schema = z.looseObject({
  ...common,
  ...ropeKeys,
  num_hidden_layers: layerCount,
  layers_block_type: layerTypes,
  rms_norm_eps: epsilon.default(1e-5),
  intermediate_size: size.nullish(),
  hidden_act: activation.prefault('gelu'),
  add_bias_linear: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),

  mamba_d_state: headSize.default(64),
  mamba_d_conv: headSize.default(4),
  mamba_expand: z.number().positive().default(2),
  mamba_ngroups: headCount.default(1),
  n_mamba_heads: headCount.default(8),
  time_step_min: z.number().nonnegative().default(0.001),

  num_attention_heads: headCount.default(32),
  num_key_value_heads: headCount.nullish(),
  num_mem_blocks: headCount.default(1),
  use_mem_rope: z.boolean().default(false),
  use_long_context: z.boolean().default(false),
  use_shared_attention_adapter: z.boolean().default(false),
  adapter_rank: size.default(128),
});

type Config = z.output<typeof schema>;

/** The default layers with a transformer block. */
const KINDS = { ...MAMBA_OR_ATTENTION, hybrid: 'hybrid' } as const;

/** The epsilon of Mamba-2's own norm, which ignores the config. */
const INNER_EPSILON = 1e-5;

/** Zamba2. */
export const zamba2 = defineFamily(['zamba2'], schema, (config, json) => {
  const { hidden_size: hiddenSize, n_mamba_heads: numHeads } = config;
  const count = config.num_hidden_layers;
  expectConfig(config.layers_block_type != null, 'layers_block_type is missing');
  expectConfig(!config.use_long_context, 'use_long_context rescales its rotary positions: that is not read');
  const kinds = layerKinds(config.layers_block_type, count, KINDS, () => 'mamba', 'layers_block_type');
  expectConfig(!kinds.includes('attention'), "layers_block_type knows 'linear_attention' and 'hybrid'");
  const inner = innerWidth(config.mamba_expand, hiddenSize, 'mamba_expand');
  expectConfig(
    inner % numHeads === 0 && numHeads % config.mamba_ngroups === 0,
    `n_mamba_heads (${numHeads}) must divide the mixer's width (${inner}) and be a multiple of mamba_ngroups (${config.mamba_ngroups})`,
  );
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(count);
  const mamba = mamba2({
    hiddenSize,
    numHeads,
    headDim: inner / numHeads,
    stateSize: config.mamba_d_state,
    numGroups: config.mamba_ngroups,
    convKernel: config.mamba_d_conv,
    // use_conv_bias is ignored.
    convBias: true,
    projectionBias: config.add_bias_linear,
    timeStepLimit: [config.time_step_min, Number.POSITIVE_INFINITY],
    normGroups: config.mamba_ngroups,
    normEpsilon: INNER_EPSILON,
    outputDeviation: deviation,
  });
  const owners = kinds.flatMap((kind, i) => (kind === 'hybrid' ? [i] : [])).slice(0, config.num_mem_blocks);
  let uses = 0;
  const decoder = [norm('input_layernorm', normOptions), named('mamba', mamba)];
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('final_layernorm'),
    layers: kinds.map((kind) => {
      if (kind === 'mamba') return layer('M', residual(decoder));
      const use = uses++;
      const owner = owners[use % config.num_mem_blocks]!;
      return layer(
        '*-M',
        hybridLayer(config, use, `model.layers.${owner}.shared_transformer`, decoder, deviation),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    // Checkpoints may repeat a shared block in every layer that uses it.
    stored: {
      ignored: repeated(kinds, owners),
    },
  });
});

function repeated(kinds: readonly string[], owners: readonly number[]): RegExp[] {
  return kinds.flatMap((kind, i) =>
    kind === 'hybrid' && !owners.includes(i)
      ? [new RegExp(`^model\\.layers\\.${i}\\.shared_transformer\\.`)]
      : [],
  );
}

/** x + mamba(norm(x + linear(shared([x, embeddings])))): the block's output enters only the Mamba-2 branch. */
function hybridLayer(
  config: Config,
  use: number,
  sharedPath: string,
  decoder: readonly Mixer[],
  deviation: number,
): Mixer {
  const shared = placed(sharedPath, sharedTransformer(config, use, deviation));
  const [normed, mamba] = decoder.map((mixer) => named('mamba_decoder', mixer)) as [Mixer, Mixer];
  return {
    state: [...shared.state, ...mamba.state],
    forward(parameters, x, context) {
      const seen = shared.forward(parameters, x, context);
      const mapped = parameters.within('linear', (p) => linear(p, seen.output, config.hidden_size));
      const input = normed.forward(parameters, add(x, mapped), context).output;
      const result = mamba.forward(parameters, input, context);
      return { output: add(x, result.output), state: { ...seen.state, ...result.state } };
    },
  };
}

/** Attention, then an MLP, without residual connections, on [x, embeddings] [batch, sequence, 2 * hidden]. */
function sharedTransformer(config: Config, use: number, deviation: number): Mixer {
  const { hidden_size: hiddenSize, num_attention_heads: numHeads } = config;
  const headDim = headSizeOf(['twice hidden_size', 2 * hiddenSize], ['num_attention_heads', numHeads]);
  const normOptions = { epsilon: config.rms_norm_eps };
  const withEmbeddings: Mixer = {
    state: [],
    forward: (_, x, { embeddings }) => ({ output: concat([x, embeddings!], -1), state: {} }),
  };
  const attending = attention({
    ...attentionFrom({ ...config, head_dim: headDim }, deviation),
    scale: 1 / Math.sqrt(headDim / 2),
    rope: config.use_mem_rope ? ropeOf(config, headDim) : undefined,
    ...(config.use_shared_attention_adapter && {
      adapt: (p: Parameters, name: string, x: Tensor, projected: Tensor) =>
        adapted(p, `linear_${name[0]}_adapter_list.${use}`, config.adapter_rank, x, projected),
    }),
  });
  return chain(
    withEmbeddings,
    norm('input_layernorm', normOptions),
    named('self_attn', attending),
    norm('pre_ff_layernorm', normOptions),
    named(
      'feed_forward',
      stateless((p, x) => feedForward(p, x, config, use)),
    ),
  );
}

function feedForward(parameters: Parameters, x: Tensor, config: Config, use: number): Tensor {
  const { hidden_size: hiddenSize, intermediate_size: said, add_bias_linear: bias } = config;
  const width = said ?? 4 * hiddenSize;
  const plain = parameters.within('gate_up_proj', (p) => linear(p, x, 2 * width, { bias }));
  const both = adapted(parameters, `gate_up_proj_adapter_list.${use}`, config.adapter_rank, x, plain);
  const [gate, value] = split(both, -1, [width, width]) as [Tensor, Tensor];
  const inside = multiply(config.hidden_act(gate), value);
  return parameters.within('down_proj', (p) => linear(p, inside, hiddenSize, { bias }));
}

/** projected + the low-rank adapter of x at `path`. */
function adapted(parameters: Parameters, path: string, rank: number, x: Tensor, projected: Tensor): Tensor {
  return parameters.within(path, (adapter) => {
    const low = adapter.within('0', (p) => linear(p, x, rank));
    const width = projected.shape.at(-1) as number;
    return add(
      projected,
      adapter.within('1', (p) => linear(p, low, width)),
    );
  });
}
