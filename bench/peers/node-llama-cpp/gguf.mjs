/** Writes a GGUF file of random weights: the shapes that the benchmark measures, in llama.cpp's quantizations. */
import { closeSync, openSync, writeSync } from 'node:fs';

/** Elements and bytes of a block, by llama.cpp's numbers of the types. */
const TYPES = { F32: [0, 1, 4], Q4_0: [2, 32, 18], Q8_0: [8, 32, 34], Q6_K: [14, 256, 210] };
const VALUE = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 };

const GRANITE = {
  'granite-350m': {
    hidden: 768,
    layers: 32,
    attention: [10, 13, 17, 27],
    heads: 48,
    headDim: 32,
    qDim: 64,
    inner: 2048,
  },
  'granite-1b': {
    hidden: 1536,
    layers: 40,
    attention: [5, 15, 25, 35],
    heads: 48,
    headDim: 64,
    qDim: 128,
    inner: 4096,
  },
};

export function writeGguf(path, shape, bits) {
  const { metadata, tensors, vocabulary } = shape === 'smollm2-360m' ? llama() : granite(GRANITE[shape]);
  const weight = bits === 4 ? 'Q4_0' : 'Q8_0';
  // As llama.cpp's quantizer does: blocks of Q6_K must fill the rows.
  const embedding = (width) => (bits === 4 && width % TYPES.Q6_K[1] === 0 ? 'Q6_K' : 'Q8_0');
  const typed = tensors.map(([name, dims, kind]) => {
    const type = kind === 'matrix' ? weight : kind === 'embedding' ? embedding(dims[0]) : 'F32';
    const [number, block, bytes] = TYPES[type];
    const elements = dims.reduce((a, b) => a * b, 1);
    return { name, dims, kind, type, number, elements, bytes: (elements / block) * bytes };
  });
  const tokens = Array.from({ length: vocabulary }, (_, i) => (i < 256 ? byteSymbol(i) : `token${i}`));
  const all = [
    ...metadata,
    ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.pre', 'string', 'default'],
    ['tokenizer.ggml.tokens', 'array', ['string', tokens]],
    ['tokenizer.ggml.token_type', 'array', ['i32', tokens.map((_, i) => (i === 256 ? 3 : 1))]],
    ['tokenizer.ggml.merges', 'array', ['string', ['a b']]],
    ['tokenizer.ggml.bos_token_id', 'u32', 256],
    ['tokenizer.ggml.eos_token_id', 'u32', 256],
    ['general.quantization_version', 'u32', 2],
  ];
  let offset = 0;
  const infos = typed.map(({ name, dims, number, bytes }) => {
    const info = [string(name), u32(dims.length), ...dims.map(u64), u32(number), u64(offset)];
    offset += padded(bytes);
    return Buffer.concat(info);
  });
  const entries = all.map(([key, type, value]) =>
    Buffer.concat([string(key), u32(VALUE[type]), encode(type, value)]),
  );
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(typed.length),
    u64(all.length),
    ...entries,
    ...infos,
  ]);
  const file = openSync(path, 'w');
  writeSync(file, Buffer.concat([header, Buffer.alloc(padded(header.length) - header.length)]));
  for (const tensor of typed) writeSync(file, data(tensor));
  closeSync(file);
}

function granite({ hidden, layers, attention, heads, headDim, qDim, inner }) {
  const name = (key) => `granitehybrid.${key}`;
  const [state, queries, groups] = [128, 12, 4];
  const width = heads * headDim;
  const vocabulary = 100352;
  const metadata = [
    ...common('granitehybrid', { hidden, layers, inner, queries, vocabulary }),
    [
      name('attention.head_count_kv'),
      'array',
      ['i32', Array.from({ length: layers }, (_, i) => (attention.includes(i) ? groups : 0))],
    ],
    [name('rope.dimension_count'), 'u32', qDim],
    [name('rope.scaling.finetuned'), 'bool', false],
    [name('rope.freq_base'), 'f32', 10000],
    [name('ssm.conv_kernel'), 'u32', 4],
    [name('ssm.inner_size'), 'u32', width],
    [name('ssm.state_size'), 'u32', state],
    [name('ssm.time_step_rank'), 'u32', heads],
    [name('ssm.group_count'), 'u32', 1],
    [name('embedding_scale'), 'f32', 12],
    [name('residual_scale'), 'f32', 0.246],
    [name('attention.scale'), 'f32', 1 / qDim],
    [name('logit_scale'), 'f32', 3],
  ];
  const tensors = Array.from({ length: layers }, (_, i) => {
    const at = (key) => `blk.${i}.${key}`;
    const mixer = attention.includes(i)
      ? attentionTensors(at, hidden, queries * qDim, groups * qDim)
      : [
          [at('ssm_in.weight'), [hidden, 2 * width + 2 * state + heads], 'matrix'],
          [at('ssm_conv1d.weight'), [4, width + 2 * state], 'small'],
          [at('ssm_conv1d.bias'), [width + 2 * state], 'small'],
          [at('ssm_dt.bias'), [heads], 'small'],
          [at('ssm_a'), [1, heads], 'decay'],
          [at('ssm_d'), [1, heads], 'one'],
          [at('ssm_norm.weight'), [width, 1], 'one'],
          [at('ssm_out.weight'), [width, hidden], 'matrix'],
        ];
    return [[at('attn_norm.weight'), [hidden], 'one'], ...mixer, ...mlpTensors(at, hidden, inner)];
  }).flat();
  return { metadata, tensors: [...edges(hidden, vocabulary), ...tensors], vocabulary };
}

function llama() {
  const [hidden, layers, queries, groups, qDim, inner, vocabulary] = [960, 32, 15, 5, 64, 2560, 49152];
  const metadata = [
    ...common('llama', { hidden, layers, inner, queries, vocabulary }),
    ['llama.attention.head_count_kv', 'u32', groups],
    ['llama.rope.dimension_count', 'u32', qDim],
    ['llama.rope.freq_base', 'f32', 100000],
  ];
  const tensors = Array.from({ length: layers }, (_, i) => {
    const at = (key) => `blk.${i}.${key}`;
    return [
      [at('attn_norm.weight'), [hidden], 'one'],
      ...attentionTensors(at, hidden, queries * qDim, groups * qDim),
      ...mlpTensors(at, hidden, inner),
    ];
  }).flat();
  return { metadata, tensors: [...edges(hidden, vocabulary), ...tensors], vocabulary };
}

function common(architecture, { hidden, layers, inner, queries, vocabulary }) {
  const name = (key) => `${architecture}.${key}`;
  return [
    ['general.architecture', 'string', architecture],
    ['general.name', 'string', 'random'],
    [name('block_count'), 'u32', layers],
    [name('context_length'), 'u32', 131072],
    [name('embedding_length'), 'u32', hidden],
    [name('feed_forward_length'), 'u32', inner],
    [name('attention.head_count'), 'u32', queries],
    [name('attention.layer_norm_rms_epsilon'), 'f32', 1e-5],
    [name('vocab_size'), 'u32', vocabulary],
  ];
}

const edges = (hidden, vocabulary) => [
  ['token_embd.weight', [hidden, vocabulary], 'embedding'],
  ['output_norm.weight', [hidden], 'one'],
];

const attentionTensors = (at, hidden, queries, keys) => [
  [at('attn_q.weight'), [hidden, queries], 'matrix'],
  [at('attn_k.weight'), [hidden, keys], 'matrix'],
  [at('attn_v.weight'), [hidden, keys], 'matrix'],
  [at('attn_output.weight'), [queries, hidden], 'matrix'],
];

const mlpTensors = (at, hidden, inner) => [
  [at('ffn_norm.weight'), [hidden], 'one'],
  [at('ffn_gate.weight'), [hidden, inner], 'matrix'],
  [at('ffn_up.weight'), [hidden, inner], 'matrix'],
  [at('ffn_down.weight'), [inner, hidden], 'matrix'],
];

/** The bytes of a tensor, filled up to a multiple of 32. */
function data({ kind, type, elements, bytes }) {
  const buffer = Buffer.alloc(padded(bytes));
  if (type === 'F32') {
    const value = {
      one: () => 1,
      decay: () => -1 - 15 * Math.random(),
      small: () => 0.2 * Math.random() - 0.1,
    }[kind];
    for (let i = 0; i < elements; i++) buffer.writeFloatLE(value(), 4 * i);
    return buffer;
  }
  const [, , block] = TYPES[type];
  for (let i = 0; i + 4 <= bytes; i += 4) buffer.writeUInt32LE((Math.random() * 2 ** 32) >>> 0, i);
  // Each block's scale is a half; Q6_K has its own at the end.
  const [at, scale] = { Q4_0: [0, 0x1d1f], Q8_0: [0, 0x0cea], Q6_K: [208, 0x01f7] }[type];
  for (let i = 0; i < bytes; i += block) buffer.writeUInt16LE(scale, i + at);
  return buffer;
}

/** How GPT-2's byte-level alphabet writes a byte. */
function byteSymbol(byte) {
  const visible = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  if (visible(byte)) return String.fromCharCode(byte);
  let hidden = 0;
  for (let b = 0; b < byte; b++) if (!visible(b)) hidden++;
  return String.fromCharCode(256 + hidden);
}

const padded = (bytes) => Math.ceil(bytes / 32) * 32;

function encode(type, value) {
  if (type === 'string') return string(value);
  if (type === 'f32') return number(4, (b) => b.writeFloatLE(value));
  if (type === 'bool') return Buffer.from([value ? 1 : 0]);
  if (type !== 'array') return u32(value);
  const [element, items] = value;
  return Buffer.concat([
    u32(VALUE[element]),
    u64(items.length),
    ...items.map((item) => encode(element, item)),
  ]);
}

function number(size, write) {
  const buffer = Buffer.alloc(size);
  write(buffer);
  return buffer;
}

const u32 = (value) => number(4, (b) => b.writeUInt32LE(value >>> 0));
const u64 = (value) => number(8, (b) => b.writeBigUInt64LE(BigInt(value)));

function string(text) {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}
