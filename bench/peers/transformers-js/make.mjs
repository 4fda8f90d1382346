/**
 * `node make.mjs <shape> <bits> <folder>`: Heddle's own model in that folder as transformers.js has it: one ONNX graph with the inputs and
 * outputs of a Granite hybrid, and the same quantized weights beside it.
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FUSED } from '../../../dist/engine/index.js';
import {
  concat,
  dimension,
  gather,
  input,
  multiplyDims,
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
const model = modelFromConfig(config, source);

/** `layers.3.mamba.conv` goes in as `past_conv.3` and comes out as `present_conv.3`. */
function nameOf(name, isNew) {
  const [, layer, part] = /^layers\.(\d+)\.\w+\.(\w+)$/.exec(name);
  if (part !== 'key' && part !== 'value') return `${isNew ? 'present' : 'past'}_${part}.${layer}`;
  return `${isNew ? 'present' : 'past_key_values'}.${layer}.${part}`;
}

const ids = input('input_ids', 'int64', ['batch', 'sequence']);
// The mask covers what was read before and what is new.
const mask = input('attention_mask', 'int64', ['batch', 'total']);
const position = subtract(sum(mask), dimension('sequence'));
const state = Object.fromEntries(
  model.state.map(({ name, dtype, shape }) => [name, input(nameOf(name, false), dtype, shape)]),
);
const registry = new ParameterRegistry();
const result = forward(model, registry, ids, position, { state });
const rows = reshape(result.hidden, [multiplyDims(['batch', 'sequence']), model.hiddenSize]);
const last = gather(rows, reshape(subtract(dimension('sequence'), 1), [1]));
const outputs = { logits: reshape(logitsOf(model, registry, last), [1, 1, model.vocabSize]) };
for (const { name, grows } of model.state) {
  const after = result.state[name];
  outputs[nameOf(name, true)] = grows === undefined ? after : concat([state[name], after], grows);
}
const weights = piecesOf(await locateWeights(source, model));
const located = JSON.parse(JSON.stringify([...weights]), (key, value) => (key === 'location' ? DATA : value));
const { bytes } = toOnnx(outputs, { fused: FUSED.cpu, weights: new Map(located) });

mkdirSync(join(target, 'onnx'), { recursive: true });
writeFileSync(join(target, 'onnx', 'model_quantized.onnx'), bytes);
copyFileSync(join(source, 'model.safetensors'), join(target, 'onnx', DATA));
for (const file of ['tokenizer.json', 'tokenizer_config.json'])
  copyFileSync(join(source, file), join(target, file));
const { quantization_config: _, ...rest } = config;
writeFileSync(join(target, 'config.json'), JSON.stringify(rest));
