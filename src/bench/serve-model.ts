/** A folder to serve with a model of random weights, quantized or in bfloat16, and a tokenizer that has a text for each of its tokens. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { writeRandomCheckpoint, writeRandomQuantized } from './random-checkpoint.js';
import { SHAPES, type ShapeName } from './shapes.js';

/**
 * Writes it into a folder inside of this one. `bits` of the weights are 4 or 8, in blocks of 128 or what fits the model, or 16. Returns the
 * folder, and the bytes of the weights.
 */
export async function writeServedModel(
  folder: string,
  shape: ShapeName,
  bits: 4 | 8 | 16,
): Promise<{ folder: string; bytes: number }> {
  const model = SHAPES[shape]();
  const target = join(folder, shape);
  await mkdir(target);
  const bytes =
    bits === 16
      ? await writeRandomCheckpoint(target, model)
      : await writeRandomQuantized(target, model, { bits, block: 128 });
  // Every byte, so that any text can be written, then words.
  const { vocab: known } = trainBpe(['heddle'], { vocabSize: 256, specialTokens: [] });
  const words = Array.from({ length: model.vocabSize - known.size }, (_, i) => `w${i.toString(36)}`);
  const vocab = new Map([...known.keys(), ...words].map((text, id) => [text, id]));
  await new Tokenizer(tokenizerFiles({ vocab, merges: [], specialTokens: [] })).save(target);
  return { folder: target, bytes };
}
