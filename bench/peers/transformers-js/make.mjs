/**
 * `node make.mjs <shape> <bits> <folder>`: Heddle's own model in that folder as transformers.js has it: one ONNX graph with the inputs and
 * outputs of a Granite hybrid, and the same quantized weights beside it.
 */
import { appendFileSync, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FUSED } from '../../../dist/engine/index.js';
import {
  concat,
  dimension,
  gather,
  input,
  reshape,
  subtract,
  sum,
  toOnnx,
} from '../../../dist/graph/index.js';
import { piecesOf } from '../../../dist/models/export-onnx.js';
import { locateWeights } from '../../../dist/models/folder.js';
import { modelFromConfig } from '../../../dist/models/index.js';
import { forward, logitsOf } from '../../../dist/models/model.js';
import { ParameterRegistry } from '../../../dist/nn/index.js';

const [shape, , folder] = process.argv.slice(2);
const source = join(folder, shape);
const target = join(folder, 'transformers-js');
const DATA = 'model_quantized.onnx_data';

const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'));
// The WebAssembly build looks nothing up in a quantized table: the embedding is a table of floats beside the head, of which a token
// reads one row.
const model = modelFromConfig({ ...config, tie_word_embeddings: false }, source);
const EMBEDDING = 'model.embed_tokens.weight';

/** `layers.3.mamba.conv` goes in as `past_conv.3` and comes out as `present_conv.3`. */
function nameOf(name, isNew) {
  const [, layer, part] = /^layers\.(\d+)\.\w+\.(\w+)$/.exec(name);
  if (part !== 'key' && part !== 'value') return `${isNew ? 'present' : 'past'}_${part}.${layer}`;
  return `${isNew ? 'present' : 'past_key_values'}.${layer}.${part}`;
}

const ids = input('input_ids', 'int64', [1, 'sequence']);
// The mask covers what was read before and what is new.
const mask = input('attention_mask', 'int64', [1, 'total']);
const position = subtract(sum(mask), dimension('sequence'));
const state = Object.fromEntries(
  model.state.map(({ name, dtype, shape: [, ...shape] }) => [
    name,
    input(nameOf(name, false), dtype, [1, ...shape]),
  ]),
);
const registry = new ParameterRegistry();
const result = forward(model, registry, ids, position, { state });
const rows = reshape(result.hidden, ['sequence', model.hiddenSize]);
const last = gather(rows, reshape(subtract(dimension('sequence'), 1), [1]));
const outputs = { logits: reshape(logitsOf(model, registry, last), [1, 1, model.vocabSize]) };
for (const { name, grows } of model.state) {
  const after = result.state[name];
  outputs[nameOf(name, true)] = grows === undefined ? after : concat([state[name], after], grows);
}
mkdirSync(join(target, 'onnx'), { recursive: true });
const data = join(target, 'onnx', DATA);
copyFileSync(join(source, 'model.safetensors'), data);
const byteOffset = statSync(data).size;
const row = Float32Array.from({ length: model.hiddenSize }, (_, i) => 0.02 * Math.sin(i));
const PART = 256;
for (let i = 0; i < model.vocabSize; i += PART) {
  const table = new Float32Array(Math.min(PART, model.vocabSize - i) * row.length);
  for (let at = 0; at < table.length; at++) table[at] = row[(at * 7 + i) % row.length];
  appendFileSync(data, new Uint8Array(table.buffer));
}
const byteLength = statSync(data).size - byteOffset;

const found = piecesOf(await locateWeights(source, modelFromConfig(config, source)));
const weights = new Map(
  JSON.parse(JSON.stringify([...found]), (key, value) => (key === 'location' ? DATA : value)),
);
weights.set('lm_head.weight', weights.get(EMBEDDING));
weights.set(EMBEDDING, [{ type: 'float32', location: DATA, byteOffset, byteLength }]);
const { bytes } = toOnnx(outputs, { fused: FUSED.cpu, weights });
writeFileSync(join(target, 'onnx', 'model_quantized.onnx'), bytes);
for (const file of ['tokenizer.json', 'tokenizer_config.json'])
  copyFileSync(join(source, file), join(target, file));
const { quantization_config: _, ...rest } = config;
writeFileSync(join(target, 'config.json'), JSON.stringify(rest));
