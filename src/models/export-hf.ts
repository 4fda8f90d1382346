/**
 * Maps our own models to families that other programs read: the family for a pattern, its `config.json`, and the names of its tensors. Keys
 * and names are those of transformers; vLLM and llama.cpp's converter read the same.
 *
 *     (*-)xN with rotary positions      llama: gate and value of an MLP are two tensors
 *     M- and *- in any order            granitemoehybrid without experts, its multipliers 1
 *     M alone                           mamba2, whose names are ours
 */
import { ConfigError } from '../errors.js';
import type { ModelConfig } from './config.js';
import { countLayers, layerLetters, parsePattern } from './pattern.js';

/** A model of ours as one of a family that other programs read. */
export interface ForeignModel {
  /** The contents of its `config.json`, without the dtype. */
  readonly json: Readonly<Record<string, unknown>>;
  /** The names of one of our tensors in the family; with two names, each gets half of the rows. */
  readonly rename: (name: string) => readonly string[];
  /** Notes on programs that cannot read it, or compute something other than transformers. */
  readonly notes: readonly string[];
}

/** The mixers of layers, each of which is followed by an MLP. */
type MixerLetter = 'M' | '*';

/** Maps a model to a family. Throws `ConfigError` for a model that no family can express. */
export function asKnownFamily(config: ModelConfig): ForeignModel {
  const parsed = parsePattern(config.pattern);
  if (parsed.some(({ shares }) => shares !== undefined))
    throw misfit(config.pattern, 'layers that share their weights, which none of these families has');
  const letters = parsed.map(layerLetters);
  if (letters.every((letter) => letter === 'M')) return asMamba2(config, letters.length);
  const layers = mixersOf(config.pattern, letters);
  const rotates = config.ropeTheta !== null;
  return rotates && layers.every((letter) => letter === '*')
    ? asLlama(config, layers.length)
    : asGranite(config, layers);
}

/** The mixers of a pattern that alternates mixers and MLPs. */
function mixersOf(pattern: string, letters: readonly string[]): MixerLetter[] {
  const unknown = letters.find((letter) => !'M*-'.includes(letter));
  if (unknown)
    throw misfit(
      pattern,
      `${countLayers(unknown)[0]!.name} (${unknown}), which neither llama, granitemoehybrid nor mamba2 has`,
    );
  const wrong = letters.findIndex((letter, i) => (letter === '-') !== (i % 2 === 1));
  if (wrong >= 0 || letters.length % 2 === 1) {
    const at = wrong >= 0 ? wrong : letters.length;
    const expected = at % 2 === 1 ? 'an MLP (-)' : 'a mixer (M or *)';
    const found = at < letters.length ? `is ${letters[at]}` : 'is missing';
    throw misfit(pattern, `an order that no family has: block ${at + 1} ${found} where ${expected} must be`);
  }
  return letters.filter((letter) => letter !== '-') as MixerLetter[];
}

function misfit(pattern: string, what: string): ConfigError {
  return new ConfigError(
    `the pattern ${pattern} has ${what}. What others read: M- and *- in any order, or M alone. ONNX takes every pattern.`,
  );
}

function asMamba2(config: ModelConfig, count: number): ForeignModel {
  const expand = expansion(config, 'mamba2');
  return {
    json: {
      architectures: ['Mamba2ForCausalLM'],
      model_type: 'mamba2',
      ...commonKeys(config),
      num_hidden_layers: count,
      num_heads: config.mambaNumHeads,
      head_dim: config.mambaHeadDim,
      state_size: config.ssmStateSize,
      n_groups: config.nGroups,
      expand,
      conv_kernel: config.convKernel,
      use_bias: false,
      use_conv_bias: config.useConvBias,
      chunk_size: CHUNK,
      layer_norm_epsilon: config.normEpsilon,
      ...timeStepKeys(config),
      // Without it llama.cpp's converter pads the vocabulary to a multiple of 16, unlike the embeddings.
      ...(config.vocabSize % 16 !== 0 && { pad_vocab_size_multiple: 1 }),
    },
    rename: (name) => [name],
    notes: those([
      [expand !== 2, `llama.cpp reads mamba2 with an inner width of 2 hidden sizes only, not ${expand}`],
      ...mambaNotes(config),
    ]),
  };
}

function asLlama(config: ModelConfig, count: number): ForeignModel {
  if (config.hiddenSize % config.numAttentionHeads !== 0) {
    throw new ConfigError(
      `hidden_size (${config.hiddenSize}) is no multiple of num_attention_heads (${config.numAttentionHeads}), as llama must have it`,
    );
  }
  return {
    json: {
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      ...commonKeys(config),
      num_hidden_layers: count,
      ...attentionKeys(config),
      head_dim: config.headDim,
      intermediate_size: config.intermediateSize,
      mlp_bias: false,
      rms_norm_eps: config.normEpsilon,
    },
    rename: pairNames(
      () => 'self_attn',
      new Map([
        ['input_linear', ['mlp.gate_proj', 'mlp.up_proj']],
        ['output_linear', ['mlp.down_proj']],
      ]),
    ),
    notes: [],
  };
}

function asGranite(config: ModelConfig, layers: readonly MixerLetter[]): ForeignModel {
  const attends = layers.includes('*');
  const remembers = layers.includes('M');
  const { hiddenSize, vocabSize } = config;
  const inner = config.numAttentionHeads * config.headDim;
  if (attends && inner !== hiddenSize) {
    throw new ConfigError(
      `num_attention_heads (${config.numAttentionHeads}) times head_dim (${config.headDim}) is ${inner}; granitemoehybrid takes hidden_size (${hiddenSize}) alone`,
    );
  }
  // Readers derive sizes from these and require divisibility, even for kinds of layers that the model does not have.
  const heads = attends
    ? config
    : { ...config, numAttentionHeads: 1, numKeyValueHeads: 1, headDim: hiddenSize };
  const mamba = remembers ? config : { ...config, mambaNumHeads: 1, mambaHeadDim: hiddenSize, nGroups: 1 };
  const rotates = config.ropeTheta !== null;
  return {
    json: {
      architectures: ['GraniteMoeHybridForCausalLM'],
      model_type: 'granitemoehybrid',
      ...commonKeys(config),
      num_hidden_layers: layers.length,
      // All readers know these two names; not all know transformers' newer ones.
      layer_types: layers.map((letter) => (letter === '*' ? 'attention' : 'mamba')),
      ...attentionKeys(heads),
      position_embedding_type: rotates ? 'rope' : 'nope',
      attention_multiplier: 1 / Math.sqrt(heads.headDim),
      embedding_multiplier: 1,
      residual_multiplier: 1,
      logits_scaling: 1,
      num_local_experts: 0,
      num_experts_per_tok: 0,
      shared_intermediate_size: config.intermediateSize,
      // llama.cpp reads the width of MLPs from this key.
      intermediate_size: config.intermediateSize,
      ...graniteMambaKeys(mamba),
      rms_norm_eps: config.normEpsilon,
      // Its cache takes its length from an attention layer.
      ...(!attends && { use_cache: false }),
    },
    rename: pairNames(
      (layer) => (layers[layer] === '*' ? 'self_attn' : 'mamba'),
      new Map([
        ['input_linear', ['shared_mlp.input_linear']],
        ['output_linear', ['shared_mlp.output_linear']],
      ]),
    ),
    notes: those([
      [!attends, 'without attention transformers keeps no cache: it reads the whole text for every token'],
      [
        attends && rotates === remembers,
        `llama.cpp computes this model ${rotates ? 'without' : 'with'} rotary positions, against its config`,
      ],
      [
        remembers && vocabSize % 8 !== 0,
        `llama.cpp reads such a model with a vocab_size that is a multiple of 8 only, not ${vocabSize}`,
      ],
      ...(remembers ? mambaNotes(config) : []),
    ]),
  };
}

/** The chunk size of the scan, which affects only speed. */
const CHUNK = 256;

function graniteMambaKeys(config: ModelConfig): Record<string, unknown> {
  return {
    mamba_n_heads: config.mambaNumHeads,
    mamba_d_head: config.mambaHeadDim,
    mamba_d_state: config.ssmStateSize,
    mamba_n_groups: config.nGroups,
    mamba_d_conv: config.convKernel,
    mamba_expand: expansion(config, 'granitemoehybrid'),
    mamba_conv_bias: config.useConvBias,
    mamba_proj_bias: false,
    mamba_chunk_size: CHUNK,
    ...timeStepKeys(config),
  };
}

/** `expand`: the inner width of a Mamba-2 layer as a multiple of the hidden size, which must be an integer. */
function expansion({ mambaNumHeads, mambaHeadDim, hiddenSize }: ModelConfig, family: string): number {
  const inner = mambaNumHeads * mambaHeadDim;
  if (inner % hiddenSize !== 0) {
    const below = Math.floor(inner / hiddenSize) * hiddenSize;
    const nearest = below === 0 ? `${hiddenSize}` : `${below} or ${below + hiddenSize}`;
    throw new ConfigError(
      `mamba_num_heads (${mambaNumHeads}) times mamba_head_dim (${mambaHeadDim}) is ${inner}; ${family} takes multiples of hidden_size (${hiddenSize}) only, such as ${nearest}`,
    );
  }
  return inner / hiddenSize;
}

function commonKeys(config: ModelConfig): Record<string, unknown> {
  const eos = config.eosTokenId ?? null;
  return {
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    hidden_act: 'silu',
    tie_word_embeddings: config.tieWordEmbeddings,
    max_position_embeddings: config.maxPositionEmbeddings,
    // Readers have their own defaults for absent keys.
    bos_token_id: config.bosTokenId ?? null,
    eos_token_id: eos,
    pad_token_id: eos,
  };
}

function attentionKeys(config: ModelConfig): Record<string, unknown> {
  const { ropeTheta } = config;
  return {
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    attention_bias: false,
    ...(ropeTheta !== null && {
      rope_parameters: { rope_type: 'default', rope_theta: ropeTheta },
      // Its place before transformers 5.
      rope_theta: ropeTheta,
    }),
  };
}

function timeStepKeys({ timeStepLimit: [low, high] }: ModelConfig): Record<string, unknown> {
  if (low === 0 && high === null) return {};
  return { time_step_limit: [low, high ?? Number.POSITIVE_INFINITY] };
}

/** Conditions, with their error messages. */
type Note = readonly [boolean, string];

function mambaNotes({ nGroups, timeStepLimit: [low, high] }: ModelConfig): Note[] {
  return [
    [nGroups > 1, `vLLM and llama.cpp norm each of the ${nGroups} groups on its own, as this model does not`],
    [low !== 0 || high !== null, 'vLLM and llama.cpp do not know time_step_limit'],
  ];
}

function those(notes: readonly Note[]): string[] {
  return notes.filter(([holds]) => holds).map(([, text]) => text);
}

/** Names under `model`, where two of our blocks (a mixer and an MLP) are one layer. */
function pairNames(
  mixerOf: (layer: number) => string,
  mlp: ReadonlyMap<string, readonly string[]>,
): ForeignModel['rename'] {
  const top = new Map([
    ['backbone.embeddings.weight', 'model.embed_tokens.weight'],
    ['backbone.norm_f.weight', 'model.norm.weight'],
  ]);
  return (name) => {
    const parts = /^backbone\.layers\.(\d+)\.(norm|mixer)\.(.+)$/.exec(name);
    if (!parts) return [top.get(name) ?? name];
    const [, block, part, rest] = parts as unknown as [string, string, string, string];
    const layer = Math.floor(Number(block) / 2);
    const inside = (path: string): string => `model.layers.${layer}.${path}`;
    const isMixer = Number(block) % 2 === 0;
    if (part === 'norm') {
      return [inside(`${isMixer ? 'input_layernorm' : 'post_attention_layernorm'}.${rest}`)];
    }
    if (isMixer) return [inside(`${mixerOf(layer)}.${rest}`)];
    const [projection] = rest.split('.') as [string];
    return mlp.get(projection)!.map((path) => inside(`${path}${rest.slice(projection.length)}`));
  };
}
