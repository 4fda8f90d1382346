/**
 * A model that writes certain texts, so that clients can be tested to the end of what they do: a llama of one layer whose weights
 * are zero but for embedding and head, so that each token is followed by a certain one. Bytes are tokens; the tokens of a script are
 * pieces of its text, no two of them alike.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { HostTensor } from '../../src/engine/index.js';
import { modelFromConfig } from '../../src/models/config-file.js';
import { parametersOf, writeModel } from '../../src/models/index.js';
import { Random } from '../../src/nn/index.js';

const HIDDEN = 256;
const END = '<|end|>';

/** The sign of a byte in the alphabet of byte-level tokenizers. */
const SIGNS = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const shown = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(shown ? byte : next++);
  });
})();
const spelled = (text: string): string => Array.from(Buffer.from(text), (byte) => SIGNS[byte]).join('');

/** What is written after a prompt that ends with the mark of a role: `user`, `tool`, ... */
export type Scripts = Readonly<Record<string, string>>;

/** The mark that a template puts behind its prompt to have the script of the last message's role written. */
export const CUE = "{%- if add_generation_prompt %}{{- '<|' + messages[-1].role + '|>' }}{%- endif %}";

/** Writes the model of these scripts and a template, which `CUE` is added to. */
export async function writeScriptedModel(folder: string, scripts: Scripts, template: string): Promise<void> {
  const vocabulary = new Map(SIGNS.map((sign, byte) => [sign, byte]));
  const idOf = (token: string): number => {
    const id = vocabulary.get(token) ?? vocabulary.size;
    vocabulary.set(token, id);
    return id;
  };
  const marks = [END, ...Object.keys(scripts).map((role) => `<|${role}|>`)];
  for (const mark of marks) idOf(mark);
  const follows = new Map<number, number>();
  const used = new Set<string>();
  for (const [role, text] of Object.entries(scripts)) {
    let last = idOf(`<|${role}|>`);
    for (const piece of [...pieces(text, used).map(idOf), idOf(END)]) {
      follows.set(last, piece);
      last = piece;
    }
  }

  const size = vocabulary.size;
  const model = modelFromConfig(
    {
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      vocab_size: size,
      hidden_size: HIDDEN,
      intermediate_size: 8,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      head_dim: 8,
      rms_norm_eps: 1e-6,
      max_position_embeddings: 8192,
      eos_token_id: idOf(END),
    },
    folder,
  );
  const random = new Random(5);
  const embeddings = Float32Array.from({ length: size * HIDDEN }, () => (random.uniform() < 0.5 ? -1 : 1));
  const head = new Float32Array(size * HIDDEN);
  for (const [id, next] of follows) {
    for (let i = 0; i < HIDDEN; i++) head[next * HIDDEN + i]! += embeddings[id * HIDDEN + i]!;
  }
  const weights = parametersOf(model).map(({ name, shape }): [string, HostTensor] => {
    const data = name.startsWith(model.names.embeddings)
      ? embeddings
      : name.startsWith(model.names.head)
        ? head
        : new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(name.includes('norm') ? 1 : 0);
    return [name, { dtype: 'float32', dims: shape, data }];
  });
  mkdirSync(folder, { recursive: true });
  await writeModel(folder, model, new Map(weights));

  const special = marks.map((content) => ({
    id: idOf(content),
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  const tokenizer = {
    version: '1.0',
    added_tokens: special,
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries([...vocabulary].filter(([token]) => !marks.includes(token))),
      merges: [],
    },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ eos_token: END }));
  writeFileSync(join(folder, 'chat_template.jinja'), template + CUE);
}

/** A text, spelled, in pieces that were not used yet; as short as that allows. */
function pieces(text: string, used: Set<string>): string[] {
  const found: string[] = [];
  let piece = '';
  for (const sign of text) {
    piece += spelled(sign);
    if (used.has(piece)) continue;
    used.add(piece);
    found.push(piece);
    piece = '';
  }
  if (piece === '') return found;
  // What is left over is like another: it goes with the one before.
  return [...found.slice(0, -1), `${found.at(-1)}${piece}`];
}
