/** Writes a model of random weights, quantized or in bfloat16, with a tokenizer that covers its whole vocabulary, for the server benchmark. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { writeRandomCheckpoint, writeRandomQuantized } from './random-checkpoint.js';
import { SHAPES, type ShapeName } from './shapes.js';

/**
 * Writes the model into a subfolder of `folder`. `bits` of the weights are 4 or 8, in blocks of 128 or the largest size that fits, or 16. Returns
 * the subfolder and the bytes of the weights.
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
  // The vocabulary has every byte, so that any text can be encoded, then words.
  const { vocab: known } = trainBpe(['heddle'], { vocabSize: 256, specialTokens: [] });
  const words = Array.from({ length: model.vocabSize - known.size }, (_, i) => `w${i.toString(36)}`);
  const vocab = new Map([...known.keys(), ...words].map((text, id) => [text, id]));
  await new Tokenizer(tokenizerFiles({ vocab, merges: [], specialTokens: [] })).save(target);
  return { folder: target, bytes };
}
