/** `config.json`: numbers that are no JSON, which families there are, and what each of them refuses, in its own keys. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { topologicalOrder } from '../graph/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { thrownBy } from '../testing/refusal.js';
import { formatConfig, modelFromConfig, parseConfigText } from './config-file.js';
import { FAMILIES } from './families/index.js';
import { type Model, parametersOf, wholeOf } from './model.js';
import { fixtureFolder, referenceNames } from './testing/reference.js';

type Json = Record<string, unknown>;

const refusal = (run: () => unknown): string => thrownBy(ConfigError, run).message;

describe('the text', () => {
  const parse = (text: string): Json => parseConfigText(text, 'there/config.json');

  test('has the numbers that Python writes bare', () => {
    expect(parse('{"a": Infinity, "b": [-Infinity, NaN, 1], "c": {"d": Infinity}}')).toEqual({
      a: Number.POSITIVE_INFINITY,
      b: [Number.NEGATIVE_INFINITY, Number.NaN, 1],
      c: { d: Number.POSITIVE_INFINITY },
    });
  });

  test('has the numbers that transformers spells out', () => {
    expect(
      parse('{"a": {"__float__": "Infinity"}, "b": [{"__float__": "-Infinity"}, {"__float__": "NaN"}]}'),
    ).toEqual({
      a: Number.POSITIVE_INFINITY,
      b: [Number.NEGATIVE_INFINITY, Number.NaN],
    });
  });

  test('what only looks like such a number stays', () => {
    const text = String.raw`{"a": "Infinity", "NaN": "it is \"NaN\" \\", "b": "-Infinity", "c": "x\\\"NaN"}`;
    expect(parse(text)).toEqual(JSON.parse(text));
    for (const other of ['"12"', '"Inf"', '[]', '7', 'null', '{"valueOf": 1}']) {
      expect(parse(`{"a": {"__float__": ${other}}}`)).toEqual({ a: { __float__: JSON.parse(other) } });
    }
  });

  test('there and back', () => {
    const json = { a: Number.POSITIVE_INFINITY, b: [Number.NaN, 0.1, -1e-7], c: null, d: 'NaN "x"', e: {} };
    expect(parse(formatConfig(json))).toEqual(json);
    // Anyone's JSON reader can read it.
    expect(JSON.parse(formatConfig(json)).a).toEqual({ __float__: 'Infinity' });
  });

  const refused: [string, string, RegExp][] = [
    ['text that is no JSON', '{"model_type": ', /there\/config\.json is not JSON/],
    ['UTF-16', '{\0"\0', /there\/config\.json is not UTF-8 text: save it as UTF-8/],
    ['an empty file', '', /there\/config\.json is not JSON/],
    ['a list', '[]', /not a JSON object/],
    ['a number', 'NaN', /not a JSON object/],
    ['null', 'null', /not a JSON object/],
    ['a bare word', '{"a": Infinite}', /is not JSON/],
    ['a number as a key', '{NaN: 1}', /is not JSON/],
    ['a string that does not end', '{"a": "NaN', /is not JSON/],
    ['a lone backslash', '{"a": "\\', /is not JSON/],
    [
      'lists in lists without end',
      `{"a": ${'['.repeat(100)}`,
      /there\/config\.json nests deeper than any config/,
    ],
    ['far more than a config', `{"a": "${'x'.repeat(10_000_000)}"}`, /has 100000\d\d characters/],
  ];
  for (const [name, text, message] of refused) {
    test(`refuses ${name}`, () => expect(refusal(() => parse(text))).toMatch(message));
  }

  test('of any kind is read in a time that grows with its length alone', () => {
    // A search for the end of each string from its beginning would take hours here.
    const length = 1_000_000;
    for (const text of ['\\"'.repeat(length), '"\\'.repeat(length), '"'.repeat(length), '['.repeat(length)]) {
      refusal(() => parse(text));
    }
    expect(parse(`{"a": "${'\\"'.repeat(length)}"}`).a).toHaveLength(length);
  });
});

describe('the family', () => {
  const known = FAMILIES.flatMap(({ modelTypes }) => modelTypes);

  test('is one of those that are read; the others are told which', () => {
    for (const type of ['gpt2', 'Llama', '', 'toString']) {
      const message = refusal(() => modelFromConfig({ model_type: type }, 'there/config.json'));
      expect(message).toContain(`there/config.json has the model_type "${type}"`);
      for (const other of known) expect(message).toContain(other);
    }
  });

  test('is a text', () => {
    for (const type of [undefined, null, 3, ['llama'], { toString: 'llama' }]) {
      const message = refusal(() => modelFromConfig({ model_type: type }, 'there/config.json'));
      const said = type === undefined ? 'no model_type' : `the model_type ${JSON.stringify(type)}`;
      expect(message).toContain(`there/config.json has ${said}; those that are read: heddle, `);
    }
  });

  test('has a name of its own', () => expect(new Set(known).size).toBe(known.length));
});

const fixture = (kind: 'hf' | 'variants', name: string): Json =>
  parseConfigText(readFileSync(join(fixtureFolder(kind, name), 'config.json'), 'utf8'), name);

/** The model of a fixture's config with some of its values changed; undefined takes one away. */
function changed(json: Json, change: Json): Model {
  const entries = Object.entries({ ...json, ...change }).filter(([, value]) => value !== undefined);
  return modelFromConfig(Object.fromEntries(entries), 'there/config.json');
}

test('a null where a value is expected stands for the default', async () => {
  const json = JSON.parse(readFileSync(join(fixtureFolder('hf', 'llama'), 'config.json'), 'utf8'));
  const absent = { ...json };
  const keys = [
    'mlp_bias',
    'attention_bias',
    'tie_word_embeddings',
    'hidden_act',
    'rms_norm_eps',
    'eos_token_id',
  ];
  for (const key of keys) delete absent[key];
  const expected = parametersOf(modelFromConfig(absent, 'config.json')).map(({ name, shape }) => [
    name,
    shape,
  ]);
  const nulls = { ...absent, ...Object.fromEntries(keys.map((key) => [key, null])) };
  const found = modelFromConfig(nulls, 'config.json');
  expect(parametersOf(found).map(({ name, shape }) => [name, shape])).toEqual(expected);
  // What has no default is asked for all the same.
  expect(() => modelFromConfig({ ...json, hidden_size: null }, 'config.json')).toThrow(/hidden_size/);
});

describe.each(referenceNames('hf'))('%s', (name) => {
  const json = fixture('hf', name);

  test('keeps what its config says', () => {
    const model = changed(json, {});
    expect(model.json).toEqual(json);
    expect(model.modelType).toBe(json.model_type);
  });

  test('refuses weights that were quantized elsewhere', () => {
    const message = refusal(() => changed(json, { quantization_config: { bits: 4 } }));
    expect(message).toMatch(/there\/config\.json has a quantization_config.*float32, float16 or bfloat16/);
    for (const [config, words] of [
      [{ quant_method: 'fp8', weight_block_size: [128, 'x'] }, /quant_method "fp8" \(FP8 in blocks/],
      [{ quant_method: 'gptq', bits: 3, group_size: 128 }, /quant_method "gptq" \(GPTQ\), bits 3.*GGUF/],
      [{ quant_method: 'awq', bits: 4, version: 'gemv' }, /\(AWQ\).*quantize/],
      [{ quant_method: 'compressed-tensors', format: 'marlin-24' }, /\(compressed-tensors, of vLLM\)/],
      [{ group_size: 64, bits: 4, mode: 'affine' }, /"mlx" \(Apple's MLX\), bits 4/],
      [{ quant_method: 'constructor' }, /quant_method "constructor": weights/],
      [{ quant_method: 'heddle', bits: 3, block_size: 64 }, /not one of ours: bits/],
    ] as const) {
      expect(refusal(() => changed(json, { quantization_config: config }))).toMatch(words);
    }
    expect(changed(json, { quantization_config: null }).modelType).toBe(json.model_type);
  });

  const text = json.text_config as Json | undefined;
  const within = (change: Json): Json => (text ? { text_config: { ...text, ...change } } : change);
  const wrong: [string, unknown, RegExp][] = [
    ['hidden_size', undefined, /hidden_size: .*number/],
    ['hidden_size', '32', /hidden_size: .*number/],
    ['hidden_size', 0, /hidden_size/],
    ['hidden_size', -32, /hidden_size/],
    ['hidden_size', 32.5, /hidden_size/],
    ['hidden_size', 1e9, /hidden_size/],
    ['vocab_size', Number.NaN, /vocab_size/],
    ['vocab_size', Number.POSITIVE_INFINITY, /vocab_size/],
    ['vocab_size', [64], /vocab_size/],
    ['tie_word_embeddings', 'yes', /tie_word_embeddings: .*expected true or false, and it is "yes"/],
    ['eos_token_id', 'end', /eos_token_id/],
    ['eos_token_id', [1, -1], /eos_token_id/],
  ];
  for (const [key, value, message] of wrong) {
    test(`refuses ${key} ${String(value)}`, () => {
      const told = refusal(() => changed(json, within({ [key]: value })));
      expect(told).toMatch(message);
      expect(told).toContain('there/config.json');
    });
  }
});

type Kind = 'hf' | 'variants';
const contradictions: [Kind, string, Json, RegExp][] = [
  ['hf', 'mamba', { expand: 1e-3 }, /expand \(0\.001\) times hidden_size \(32\) make a size of 0/],
  ['hf', 'mamba', { hidden_act: 'gelu' }, /hidden_act.*silu/],
  ['hf', 'mamba', { time_step_rank: 'all' }, /time_step_rank/],
  ['hf', 'falcon_mamba', { mixer_rms_eps: 0 }, /mixer_rms_eps/],
  ['hf', 'falcon_mamba', { num_hidden_layers: 0 }, /num_hidden_layers/],

  [
    'hf',
    'mamba2',
    { num_heads: 5 },
    /num_heads \(5\) times head_dim \(\d+\) must be hidden_size \(32\) times/,
  ],
  ['hf', 'mamba2', { n_groups: 3 }, /num_heads \(\d\) must be a multiple of n_groups \(3\)/],
  ['hf', 'mamba2', { time_step_limit: [0.5, 0.1] }, /time_step_limit: must be a lower and a higher bound/],
  ['hf', 'mamba2', { time_step_limit: [0, 'Infinity'] }, /time_step_limit\.1/],
  ['hf', 'mamba2', { time_step_limit: 0.1 }, /time_step_limit/],

  ['hf', 'jamba', { num_experts_per_tok: 9 }, /num_experts_per_tok \(9\) must be 1 to num_experts \(4\)/],
  ['hf', 'jamba', { num_experts_per_tok: 0 }, /num_experts_per_tok/],
  ['hf', 'jamba', { num_experts: 60_000 }, /num_experts \(60000\) in each of \d layers are more than 100000/],
  ['hf', 'jamba', { num_key_value_heads: 3 }, /num_attention_heads \(4\).*num_key_value_heads \(3\)/],
  ['hf', 'jamba', { attn_layer_period: 0 }, /attn_layer_period/],

  [
    'hf',
    'bamba',
    { mamba_n_heads: 3 },
    /mamba_n_heads \(3\) times mamba_d_head \(\d+\) must be the mixer's width/,
  ],
  ['hf', 'bamba', { mamba_n_groups: 3 }, /mamba_n_heads \(\d\) must be a multiple of mamba_n_groups \(3\)/],
  ['hf', 'bamba', { attn_layer_indices: [0.5] }, /attn_layer_indices/],
  [
    'hf',
    'bamba',
    { num_attention_heads: 6 },
    /hidden_size \(32\) must be a multiple of num_attention_heads \(6\)/,
  ],

  [
    'hf',
    'granitemoehybrid',
    { layer_types: ['mamba'] },
    /layer_types has 1 entries, but num_hidden_layers is \d/,
  ],
  ['hf', 'olmo_hybrid', { hidden_act: 'mish' }, /hidden_act: "mish" is not an activation.*silu, swish/],
  // Their mixers' convolutions have it fused.
  ...['bamba', 'falcon_h1', 'granitemoehybrid', 'jamba', 'qwen3_5', 'qwen3_next'].map(
    (name): [Kind, string, Json, RegExp] => ['hf', name, { hidden_act: 'gelu' }, /hidden_act: .*silu/],
  ),
  ['hf', 'granitemoehybrid', { logits_scaling: 0 }, /logits_scaling is 0/],
  [
    'hf',
    'granitemoehybrid-moe-bf16',
    { num_experts_per_tok: 0 },
    /num_experts_per_tok \(0\).*num_local_experts/,
  ],
  ['hf', 'granitemoehybrid-moe-bf16', { intermediate_size: null }, /intermediate_size, the experts' width/],

  [
    'hf',
    'nemotron_h',
    { layers_block_type: ['mamba', 'conv'] },
    /layers_block_type has "conv"; known are .*moe/,
  ],
  ['hf', 'nemotron_h', { layers_block_type: ['constructor'] }, /layers_block_type has "constructor"/],
  [
    'hf',
    'nemotron_h',
    { layers_block_type: undefined, hybrid_override_pattern: 'M-X' },
    /hybrid_override_pattern has "X"; known are M, \*, - and E/,
  ],
  ['hf', 'nemotron_h', { layers_block_type: [] }, /layers_block_type or hybrid_override_pattern is missing/],
  [
    'hf',
    'nemotron_h',
    { num_hidden_layers: 99 },
    /num_hidden_layers is 99, but the layers that are named are \d/,
  ],
  ['hf', 'nemotron_h', { n_groups: 3 }, /mamba_num_heads \(\d\) must be a multiple of n_groups \(3\)/],
  ['variants', 'nemotron_h-moe', { mlp_hidden_act: 'silu' }, /mlp_hidden_act of experts must be relu2/],
  [
    'variants',
    'nemotron_h-moe',
    { n_group: 3 },
    /n_routed_experts \(8\) must be a multiple of n_group \(3\)/,
  ],
  ['variants', 'nemotron_h-moe', { n_group: 8 }, /with at least 2 in each group/],
  ['variants', 'nemotron_h-moe', { topk_group: 5 }, /topk_group \(5\) must be at most n_group \(4\)/],
  ['variants', 'nemotron_h-moe', { num_experts_per_tok: 5 }, /topk_group \(2\).*num_experts_per_tok \(5\)/],

  ['hf', 'falcon_h1', { ssm_multipliers: [1, 1] }, /ssm_multipliers/],
  ['hf', 'falcon_h1', { mamba_d_ssm: 40 }, /must be the mixer's width \(40\)/],
  ['hf', 'falcon_h1', { key_multiplier: 'big' }, /key_multiplier/],

  ['hf', 'zamba2', { layers_block_type: undefined }, /layers_block_type is missing/],
  ['hf', 'zamba2', { use_long_context: true }, /use_long_context/],
  ['hf', 'zamba2', { n_mamba_heads: 7 }, /n_mamba_heads \(7\) must divide the mixer's width/],
  [
    'hf',
    'zamba2',
    { num_attention_heads: 5 },
    /twice hidden_size \(64\) must be a multiple of num_attention_heads \(5\)/,
  ],
  ['hf', 'zamba2', { num_key_value_heads: 3 }, /num_attention_heads \(\d\).*num_key_value_heads \(3\)/],

  [
    'hf',
    'lfm2',
    { layer_types: ['conv', 'slide'], num_hidden_layers: 2 },
    /"slide"; known are conv, full_attention/,
  ],
  [
    'variants',
    'lfm2-biases',
    { block_ffn_dim_multiplier: 1e300 },
    /block_ffn_dim_multiplier \(1e\+300\).*make a size/,
  ],
  ['hf', 'lfm2', { conv_L_cache: 0 }, /conv_L_cache/],
  ['hf', 'lfm2_moe', { num_experts_per_tok: 5 }, /num_experts_per_tok \(5\) must be 1 to num_experts \(4\)/],
  ['hf', 'qwen3_5_moe', { num_experts: 0 }, /num_experts/],
  ['hf', 'minimax', { num_experts_per_tok: 5 }, /num_experts_per_tok \(5\) must be 1 to num_local_experts/],
  ['hf', 'kimi_linear', { num_key_value_heads: 2 }, /num_key_value_heads \(2\) must be num_attention_heads/],
  ['hf', 'kimi_linear', { num_expert_group: 3 }, /num_experts \(4\) must be a multiple of n_group \(3\)/],
  ['hf', 'kimi_linear', { mlp_layer_types: ['dense'] }, /mlp_layer_types has 1 entries/],
  ['hf', 'kimi_linear', { mla_use_output_gate: true }, /mla_use_output_gate/],
  [
    'hf',
    'kimi_linear',
    { layer_types: null, linear_attn_config: { kda_layers: [1, 2], full_attn_layers: [4] } },
    /linear_attn_config names layer 3 neither in kda_layers nor in full_attn_layers/,
  ],

  ['hf', 'qwen3_next', { num_experts_per_tok: 99 }, /num_experts_per_tok \(99\) must be 1 to num_experts/],
  [
    'hf',
    'qwen3_next',
    { linear_num_value_heads: 3 },
    /linear_num_value_heads \(3\) must be a multiple of linear_num_key_heads \(2\)/,
  ],
  ['hf', 'qwen3_next', { layer_types: 'full_attention' }, /layer_types/],
  ['hf', 'qwen3_next', { head_dim: 7 }, /1 of 7 elements of a head .* cannot rotate in pairs/],
  ['hf', 'qwen3_5', { num_key_value_heads: 3 }, /num_attention_heads \(4\).*num_key_value_heads \(3\)/],

  ['hf', 'olmo_hybrid', { linear_num_value_heads: 3 }, /linear_num_value_heads \(3\).*linear_num_key_heads/],
  ['hf', 'olmo_hybrid', { layer_types: ['full_attention'] }, /layer_types has 1 entries/],
  [
    'hf',
    'olmo_hybrid',
    { linear_num_key_heads: 64, linear_num_value_heads: 64, linear_key_head_dim: null },
    /hidden_size \(32\) and linear_num_key_heads \(64\) make a size of 0/,
  ],

  ['hf', 'recurrent_gemma', { lru_width: 30 }, /lru_width \(30\) must be a multiple of num_attention_heads/],
  ['hf', 'recurrent_gemma', { intermediate_size: 1 }, /half of intermediate_size \(1\) make a size of 0/],
  ['hf', 'recurrent_gemma', { block_types: [] }, /block_types/],
  ['hf', 'recurrent_gemma', { block_types: ['mamba'] }, /block_types\.0/],
  ['hf', 'recurrent_gemma', { hidden_activation: 'silu' }, /hidden_activation must be gelu_pytorch_tanh/],

  [
    'hf',
    'llama',
    { architectures: ['LlamaForSequenceClassification'] },
    /architectures "LlamaForSequenceCl.*ForCausalLM/,
  ],
  ['hf', 'llama', { architectures: ['LlamaForCausalLMEagle3'] }, /Eagle3", whose head does not/],
  [
    'hf',
    'qwen3',
    { architectures: ['Qwen3MoeForCausalLM'] },
    /Qwen3MoeForCausalLM" and the model_type "qwen3"/,
  ],
  ['hf', 'lfm2', { architectures: ['Lfm2VlForConditionalGeneration'] }, /Lfm2Vl.* and the model_type "lfm2"/],
  [
    'hf',
    'kimi_linear',
    { architectures: ['KimiK3ForCausalLM'] },
    /KimiK3.* and the model_type "kimi_linear"/,
  ],
  ['hf', 'llama', { head_dim: 5 }, /5 of 5 elements of a head .* cannot rotate in pairs/],
  ['hf', 'llama', { hidden_act: 'constructor' }, /"constructor" is not an activation/],
  ['hf', 'llama', { num_hidden_layers: 5000 }, /num_hidden_layers/],
  ['hf', 'llama', { rope_parameters: { rope_type: 'longrope' } }, /"longrope"; known are default, dynamic/],
  ['hf', 'llama', { rope_parameters: null, rope_scaling: { type: 'su' } }, /rope_type "su"; known are/],
  ['hf', 'llama', { rope_parameters: { rope_type: ['yarn'] } }, /rope_type \["yarn"\]; known/],
  [
    'variants',
    'llama-yarn',
    { rope_parameters: { rope_type: 'yarn', factor: null, beta_fast: '32' } },
    /beta_fast/,
  ],
  ['hf', 'qwen3', { layer_types: ['full_attention', 'chunked_attention'] }, /layer_types/],
  ['variants', 'qwen3-sliding', { sliding_window: 0 }, /sliding_window/],
];

describe('what contradicts itself is refused in the words of the file', () => {
  for (const [kind, name, change, message] of contradictions) {
    test(`${name}: ${JSON.stringify(change)}`, () => {
      const json = fixture(kind, name);
      const text = json.text_config as Json | undefined;
      const told = refusal(() => changed(json, text ? { text_config: { ...text, ...change } } : change));
      expect(told).toMatch(message);
      expect(told).toContain('there/config.json');
    });
  }

  test('qwen3_5 without the config of its language model', () => {
    for (const text of [undefined, null, 'text', 3]) {
      expect(refusal(() => changed({ model_type: 'qwen3_5' }, { text_config: text }))).toMatch(
        /there\/config\.json has no text_config/,
      );
    }
  });

  test('of very many problems a few are told', () => {
    const wrong = { block_types: Array.from({ length: 5000 }, () => 'none') };
    const told = refusal(() => changed(fixture('hf', 'recurrent_gemma'), wrong));
    expect(told).toMatch(/block_types\.4: [^;]*; and 4995 more$/);
  });
});

test.each([
  ['llama', ['LLaMAForCausalLM']],
  ['llama', ['FSDPLlamaForCausalLM']],
  ['llama', []],
  ['llama', null],
  ['mamba', ['MambaModel']],
  ['mamba2', ['Mamba2LMHeadModel']],
  ['qwen3_5', ['Qwen3_5ForConditionalGeneration']],
  ['qwen3_5', ['Qwen3_5TextModel']],
  ['nemotron_h', ['Other', 'NemotronHForCausalLM']],
])('a %s of the architectures %j is read', (name, architectures) => {
  const json = parseConfigText(
    readFileSync(join(fixtureFolder('hf', name), 'config.json'), 'utf8'),
    'config.json',
  );
  expect(modelFromConfig({ ...json, architectures }, 'config.json').layers.length).toBeGreaterThan(0);
});

describe('positions that a config says nothing about', () => {
  /** All that a model computes, with its constants. */
  const graphOf = (name: string, changes: Json): string => {
    const json = parseConfigText(
      readFileSync(join(fixtureFolder('hf', name), 'config.json'), 'utf8'),
      'config.json',
    );
    const { rope_parameters: _, ...rest } = json;
    const whole = wholeOf(modelFromConfig({ ...rest, ...changes }, 'config.json'), new ParameterRegistry());
    return JSON.stringify(
      topologicalOrder(whole).map(({ operator, attributes }) => [operator.name, attributes]),
      (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value),
    );
  };

  test.each([
    ['minimax', 1_000_000],
    ['lfm2', 1_000_000],
    ['olmo_hybrid', 10_000],
    ['qwen3', 10_000],
  ])('%s rotates by the theta that transformers takes, %d', (name, theta) => {
    expect(graphOf(name, {})).toBe(graphOf(name, { rope_theta: theta }));
    expect(graphOf(name, {})).not.toBe(graphOf(name, { rope_theta: 2 * theta }));
    expect(graphOf(name, { rope_parameters: null })).toBe(graphOf(name, {}));
  });

  test('olmo_hybrid has none where its theta is null', () => {
    const without = graphOf('olmo_hybrid', { rope_theta: null });
    expect(without).not.toBe(graphOf('olmo_hybrid', {}));
    expect(graphOf('olmo_hybrid', { rope_parameters: { rope_type: 'default', rope_theta: null } })).toBe(
      without,
    );
  });
});
