/**
 * Locates the parameters of a model in a GGUF file. llama.cpp has its own names, splits and stacks matrices, permutes the rows of some for its
 * kernels, and stores -exp(A_log) and 1 + weight instead of A_log and weight. A `Source` describes the inverse; rows are only permuted, so
 * that quantized matrices need not be requantized.
 */
type Json = Readonly<Record<string, unknown>>;

/** How a parameter is built from tensors of a GGUF file. */
export interface Source {
  /** The tensors whose concatenation is the parameter, apart from the order of rows. */
  readonly from: readonly string[];
  /** Row i of the parameter is row order[i] of the tensors, which are divided into equal rows. */
  readonly order?: readonly number[] | undefined;
  /** Column i is column columns[i]. */
  readonly columns?: readonly number[] | undefined;
  readonly value?: ((value: number) => number) | undefined;
  /** Matrices [., rows, columns] that are stored transposed in the first tensor. */
  readonly transposed?: readonly [rows: number, columns: number] | undefined;
}

/** Whether the file has this tensor. */
type Has = (name: string) => boolean;

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** The names of modules by their last part; `.weight` or `.bias` follows. */
const LEAVES: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  operator_norm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
  pre_ff_layernorm: 'ffn_norm',
  ffn_norm: 'ffn_norm',
  q_proj: 'attn_q',
  k_proj: 'attn_k',
  v_proj: 'attn_v',
  o_proj: 'attn_output',
  q_norm: 'attn_q_norm',
  k_norm: 'attn_k_norm',
  q_layernorm: 'attn_q_norm',
  k_layernorm: 'attn_k_norm',
  gate_proj: 'ffn_gate',
  up_proj: 'ffn_up',
  down_proj: 'ffn_down',
  w1: 'ffn_gate',
  w3: 'ffn_up',
  w2: 'ffn_down',
  x_proj: 'ssm_x',
  dt_proj: 'ssm_dt',
  dt_layernorm: 'ssm_dt_norm',
  b_layernorm: 'ssm_b_norm',
  c_layernorm: 'ssm_c_norm',
  conv1d: 'ssm_conv1d',
  shared_expert_gate: 'ffn_gate_inp_shexp',
  fc1_latent_proj: 'ffn_latent_down',
  fc2_latent_proj: 'ffn_latent_up',
  in_proj_ba: 'ssm_ba',
  in_proj_b: 'ssm_beta',
  in_proj_a: 'ssm_alpha',
  b_proj: 'ssm_beta',
  f_a_proj: 'ssm_f_a',
  f_b_proj: 'ssm_f_b',
  g_a_proj: 'ssm_g_a',
  g_b_proj: 'ssm_g_b',
  o_norm: 'ssm_norm',
  kv_a_proj_with_mqa: 'attn_kv_a_mqa',
  kv_a_layernorm: 'attn_kv_a_norm',
  q_a_proj: 'attn_q_a',
  q_a_layernorm: 'attn_q_a_norm',
  q_b_proj: 'attn_q_b',
};

/** The names of modules that depend on their parent. */
const PLACED: readonly (readonly [RegExp, string])[] = [
  [/^self_attn\.out_proj/, 'attn_output'],
  [/^conv\.conv/, 'shortconv.conv'],
  [/^conv\.in_proj/, 'shortconv.in_proj'],
  [/^conv\.out_proj/, 'shortconv.out_proj'],
  [/\bin_proj(?=\.)/, 'ssm_in'],
  [/\bout_proj(?=\.)/, 'ssm_out'],
  [/^(?:mamba|mixer|linear_attn)\.norm/, 'ssm_norm'],
  [/^norm/, 'attn_norm'],
];

/** Returns a function that locates the parameters of this config's model; undefined for one that GGUF files do not have. */
export function ggufSources(config: Json, has: Has): (name: string) => Source | undefined {
  const number = (key: string): number => Number(config[key]);
  const type = String(config.model_type);
  const isDelta = /^qwen3_(?:next|5)/.test(type);
  // Row 2i + s of a head is row s * half + i here: llama.cpp rotates adjacent pairs.
  const isInterleaved = type === 'llama' || type === 'granitemoehybrid' || type === 'nemotron_h';
  const tilesValues = /^qwen3_5/.test(type);
  const [keyHeads, valueHeads] = [number('linear_num_key_heads'), number('linear_num_value_heads')];
  const [keyDim, valueDim] = [number('linear_key_head_dim'), number('linear_value_head_dim')];
  /** The permutation of value heads: llama.cpp lists the first value head of every key head first. */
  const tiled = range(valueHeads || 0).map((head) => {
    const each = valueHeads / keyHeads;
    return (head % each) * keyHeads + Math.floor(head / each);
  });
  const rowsOfHeads = (heads: readonly number[], size: number, start = 0): number[] =>
    heads.flatMap((head) => range(size).map((i) => start + head * size + i));

  const minusOne = (value: number): number => value - 1;
  const logarithm = (value: number): number => Math.log(-value);

  return (name) => {
    if (/\b(?:embed_tokens|embeddings)\.weight$/.test(name)) return { from: ['token_embd.weight'] };
    if (name === 'lm_head.weight') return { from: ['output.weight'] };
    const inLayer = /\.layers\.(\d+)\.(.*)$/.exec(name);
    if (!inLayer) {
      const norm = ['output_norm.weight', 'token_embd_norm.weight'].find(has);
      const isNorm = /norm(?:_f)?\.weight$/.test(name);
      return isNorm && norm ? { from: [norm], value: isDelta ? minusOne : undefined } : undefined;
    }
    const [, layer, part] = inLayer as unknown as [string, string, string];
    const at = (tensor: string): string => `blk.${layer}.${tensor}`;
    const own = sourceIn(part, at);
    // Falcon-H1's converter omits the suffix of one name.
    const spelled = (tensor: string): string =>
      has(tensor) || !has(tensor.replace(/\.weight$/, '')) ? tensor : tensor.replace(/\.weight$/, '');
    return own && { ...own, from: own.from.map((tensor) => spelled(at(tensor))) };
  };

  function sourceIn(part: string, at: (tensor: string) => string): Source | undefined {
    const experts = expertsIn(part, at);
    if (experts) return experts;
    const leaf = part.split('.').at(-1)!;
    const tiles = tilesValues && valueHeads !== keyHeads;
    if (leaf === 'A_log') {
      return { from: ['ssm_a'], value: logarithm, order: tiles ? tiled : undefined };
    }
    if (leaf === 'D') return { from: ['ssm_d'] };
    if (leaf === 'dt_bias') return { from: ['ssm_dt.bias'], order: tiles ? tiled : undefined };
    if (isDelta) {
      const delta = deltaIn(part, tiles, at);
      if (delta) return delta;
    }
    if (/conv1d\.weight$/.test(part) && !has(at('ssm_conv1d.weight'))) {
      return { from: ['ssm_conv1d_q.weight', 'ssm_conv1d_k.weight', 'ssm_conv1d_v.weight'] };
    }
    if (/kv_b_proj\.weight$/.test(part)) return latentIn(at);
    const named = nameIn(part);
    if (named === undefined) return undefined;
    const fused = /^attn_([qkv])\.(weight|bias)$/.exec(named);
    if (fused && isInterleaved && fused[1] !== 'v') {
      const heads = number(fused[1] === 'q' ? 'num_attention_heads' : 'num_key_value_heads');
      return { from: [named], order: interleaved(heads, number('head_dim')) };
    }
    const isOneMore = isDelta && /norm\.weight$/.test(part) && !part.startsWith('linear_attn');
    return { from: [named], value: isOneMore ? minusOne : undefined };
  }

  function nameIn(part: string): string | undefined {
    const [, module, suffix] = /^(.*)\.(weight|bias)$/.exec(part) ?? [];
    if (module === undefined) return undefined;
    const leaf = module.split('.').at(-1)!;
    const shared = /shared_experts?\./.test(part) ? '_shexp' : '';
    const placed = PLACED.find(([pattern]) => pattern.test(part))?.[1];
    const found = placed ?? (Object.hasOwn(LEAVES, leaf) ? `${LEAVES[leaf]}${shared}` : undefined);
    const own = isDelta && found === 'ffn_norm' ? 'post_attention_norm' : found;
    return own && `${own}.${suffix}`;
  }

  function interleaved(heads: number, size: number): number[] {
    return range(heads * size).map((row) => {
      const [head, within] = [Math.floor(row / size), row % size];
      const half = size / 2;
      return head * size + 2 * (within % half) + Math.floor(within / half);
    });
  }

  /** Experts and their routers. */
  function expertsIn(part: string, at: (tensor: string) => string): Source | undefined {
    if (/(?:^|\.)(?:gate|router|router\.layer)\.weight$/.test(part)) return { from: ['ffn_gate_inp.weight'] };
    if (/(?:e_score_correction_bias|expert_bias)$/.test(part)) return { from: ['exp_probs_b.bias'] };
    const count = number('num_experts') || number('n_routed_experts') || number('num_local_experts');
    if (/experts\.down_proj$|block_sparse_moe\.output_linear\.weight$/.test(part)) {
      return { from: ['ffn_down_exps.weight'] };
    }
    if (/experts\.up_proj$/.test(part)) return { from: ['ffn_up_exps.weight'] };
    if (/experts\.gate_up_proj$|block_sparse_moe\.input_linear\.weight$/.test(part)) {
      if (has(at('ffn_gate_up_exps.weight'))) return { from: ['ffn_gate_up_exps.weight'] };
      // The file has all gates, then all values; here they are grouped by expert.
      const order = range(count).flatMap((expert) => [expert, count + expert]);
      return { from: ['ffn_gate_exps.weight', 'ffn_up_exps.weight'], order };
    }
    const shared = /^shared_mlp\.(input|output)_linear\.weight$/.exec(part);
    if (!shared) return undefined;
    const suffix = count > 0 ? '_shexp' : '';
    return {
      from:
        shared[1] === 'input'
          ? [`ffn_gate${suffix}.weight`, `ffn_up${suffix}.weight`]
          : [`ffn_down${suffix}.weight`],
    };
  }

  /** Gated delta nets. */
  function deltaIn(part: string, tiles: boolean, at: (tensor: string) => string): Source | undefined {
    const keys = keyHeads * keyDim;
    const values = rowsOfHeads(tiles ? tiled : range(valueHeads), valueDim);
    const qkv = [...range(2 * keys), ...values.map((row) => 2 * keys + row)];
    switch (part) {
      case 'linear_attn.in_proj_qkvz.weight': {
        if (has(at('ssm_in.weight'))) return { from: ['ssm_in.weight'] };
        const each = (valueHeads / keyHeads) * valueDim;
        const all = 2 * keys + valueHeads * valueDim;
        // Queries, keys, values and gates are grouped by key head here.
        const order = range(keyHeads).flatMap((head) => [
          ...rowsOfHeads([head], keyDim),
          ...rowsOfHeads([head], keyDim, keys),
          ...rowsOfHeads([head], each, 2 * keys),
          ...rowsOfHeads([head], each, all),
        ]);
        return { from: ['attn_qkv.weight', 'attn_gate.weight'], order };
      }
      case 'linear_attn.in_proj_qkv.weight':
        return { from: ['attn_qkv.weight'], order: tiles ? qkv : undefined };
      case 'linear_attn.conv1d.weight':
        return { from: ['ssm_conv1d.weight'], order: tiles ? qkv : undefined };
      case 'linear_attn.in_proj_z.weight':
        return { from: ['attn_gate.weight'], order: tiles ? values : undefined };
      case 'linear_attn.in_proj_b.weight':
        return { from: ['ssm_beta.weight'], order: tiles ? tiled : undefined };
      case 'linear_attn.in_proj_a.weight':
        return { from: ['ssm_alpha.weight'], order: tiles ? tiled : undefined };
      case 'linear_attn.out_proj.weight':
        return { from: ['ssm_out.weight'], columns: tiles ? values : undefined };
      default:
        return undefined;
    }
  }

  /** The key and value matrix of latent attention, whose keys are transposed in the file. */
  function latentIn(at: (tensor: string) => string): Source {
    if (has(at('attn_kv_b.weight'))) return { from: ['attn_kv_b.weight'] };
    const [heads, plain, width] = [
      number('num_attention_heads'),
      number('qk_nope_head_dim'),
      number('v_head_dim'),
    ];
    const order = range(heads).flatMap((head) => [
      ...rowsOfHeads([head], plain),
      ...rowsOfHeads([head], width, heads * plain),
    ]);
    return {
      from: ['attn_k_b.weight', 'attn_v_b.weight'],
      order,
      transposed: [number('kv_lora_rank'), plain],
    };
  }
}
