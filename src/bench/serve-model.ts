/** A folder to serve with a model of random weights, quantized, and a tokenizer that has a text for each of its tokens. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Quantization, quantizeWeights, writeQuantized } from '../models/index.js';
import { Tokenizer, tokenizerFiles } from '../text/index.js';
import { writeRandomCheckpoint } from './load-section.js';
import { SHAPES, type ShapeName } from './shapes.js';

export async function writeServedModel(
  folder: string,
  shape: ShapeName,
  quantization: Quantization,
): Promise<string> {
  const model = SHAPES[shape]();
  const [source, target] = [join(folder, 'source'), join(folder, shape)];
  for (const path of [source, target]) await mkdir(path);
  await writeRandomCheckpoint(source, model);
  const weights = await quantizeWeights(source, model, quantization);
  await writeQuantized(target, model, quantization, weights);
  await rm(source, { recursive: true });
  const vocab = new Map(Array.from({ length: model.vocabSize }, (_, id) => [`w${id.toString(36)}`, id]));
  await new Tokenizer(tokenizerFiles({ vocab, merges: [], specialTokens: [] })).save(target);
  return target;
}
