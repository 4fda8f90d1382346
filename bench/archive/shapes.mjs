/** Models of random weights of the size that is measured, in a folder, with a tokenizer. */
import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { writeRandomCheckpoint, writeRandomQuantized } from '../../dist/bench/random-checkpoint.js';
import { SHAPES } from '../../dist/bench/shapes.js';
import { countParameters, hybridModel, modelConfig, parametersOf, preset } from '../../dist/models/index.js';

/** Mamba-2 layers, and one in five of selective attention: a state that does not grow with a text. */
const constantState = () => {
  const hiddenSize = 768;
  return hybridModel(
    modelConfig({
      modelType: 'heddle',
      pattern: '(M-M-M-M-S-)x6',
      vocabSize: SHAPES['granite-350m']().vocabSize,
      hiddenSize,
      intermediateSize: 2048,
      tieWordEmbeddings: true,
      maxPositionEmbeddings: 1_048_576,
      ropeTheta: null,
      mambaNumHeads: (2 * hiddenSize) / 64,
      mambaHeadDim: 64,
      ssmStateSize: 64,
      numAttentionHeads: hiddenSize / 64,
      numKeyValueHeads: hiddenSize / 64,
      headDim: 64,
      attentionWindow: 128,
      attentionSelected: 128,
    }),
  );
};

/** A size of the preset that `heddle train` begins from. */
const hybrid = (size) => () => hybridModel(preset('hybrid', size, 16_384));

const MODELS = {
  ...SHAPES,
  'constant-350m': constantState,
  ...Object.fromEntries(['nano', 'small', 'base'].map((size) => [size, hybrid(size)])),
};

/** The layers of a shape. */
export function modelOf(shape) {
  const model = MODELS[shape]?.();
  if (!model) throw new Error(`no shape ${shape}: there are ${Object.keys(MODELS).join(', ')}`);
  return model;
}

/** Writes a model into a folder, in bfloat16 or in 4 or 8 bits. Returns what it is called. */
export async function writeShape(folder, shape, bits, tokenizer) {
  const model = modelOf(shape);
  if (bits === 16) await writeRandomCheckpoint(folder, model);
  else await writeRandomQuantized(folder, model, { bits, block: 128 });
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    if (existsSync(join(tokenizer, name))) copyFileSync(join(tokenizer, name), join(folder, name));
  return `${shape} (${(countParameters(parametersOf(model)) / 1e6).toFixed(0)}M parameters, ${bits} bits)`;
}
