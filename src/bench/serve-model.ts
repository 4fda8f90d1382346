/** A folder to serve with a model of random weights, quantized, and a tokenizer that has a text for each of its tokens. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Quantization } from '../models/index.js';
import { Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { writeRandomQuantized } from './random-checkpoint.js';
import { SHAPES, type ShapeName } from './shapes.js';

/** Writes it into a folder inside of this one, which it returns. */
export async function writeServedModel(
  folder: string,
  shape: ShapeName,
  quantization: Quantization,
): Promise<string> {
  const model = SHAPES[shape]();
  const target = join(folder, shape);
  await mkdir(target);
  await writeRandomQuantized(target, model, quantization);
  // Every byte, so that any text can be written, then words.
  const { vocab: bytes } = trainBpe(['heddle'], { vocabSize: 256, specialTokens: [] });
  const words = Array.from({ length: model.vocabSize - bytes.size }, (_, i) => `w${i.toString(36)}`);
  const vocab = new Map([...bytes.keys(), ...words].map((text, id) => [text, id]));
  await new Tokenizer(tokenizerFiles({ vocab, merges: [], specialTokens: [] })).save(target);
  return target;
}
