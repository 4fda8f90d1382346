/**
 * The wasm executor on a tiny checkpoint of every family and on the variants: what transformers computes, and the same bits
 * however a text is cut, whatever rows stand beside it, and whatever the number of threads.
 */
import { describe, expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { locateWeights, readModel } from './index.js';
import { reader } from './testing/reader.js';
import { readReference, referenceNames } from './testing/reference.js';

const one = await openDevice('wasm', { threads: 1 });
const three = await openDevice('wasm', { threads: 3 });

/** How many numbers are not the same bits. */
function differing(a: Float32Array, b: Float32Array): number {
  return a.reduce((count, x, i) => count + Number(!Object.is(x, b[i])), 0);
}

const references = (['hf', 'variants'] as const).flatMap((kind) =>
  referenceNames(kind).map((name) => [name, kind] as const),
);

describe.each(references)('%s', async (name, kind) => {
  const { ids, folder, logits } = await readReference(kind, name);
  const model = await readModel(folder);
  const weights = await locateWeights(folder, model);

  test('logits, and the same bits in any cut, batch and number of threads', async () => {
    const read = await reader(one, model, weights);
    const token = await read.inPieces(ids, [1]);
    expect(relativeError(token, logits)).toBeLessThan(2e-5);
    const pieces = await read.inPieces(ids, [3, 1, 2]);
    expect(relativeError(pieces, logits)).toBeLessThan(2e-5);
    const alone = await read.inPieces([ids[0]!], [1]);
    expect(differing(alone, token.subarray(0, alone.length))).toBe(0);
    expect(differing(pieces, token)).toBe(0);
    const whole = await read.inPieces([ids[0]!], [ids[0]!.length]);
    expect(differing(whole, alone)).toBe(0);
    await read.dispose();

    const together = await reader(three, model, weights);
    expect(differing(await together.inPieces(ids, [3, 1, 2]), pieces)).toBe(0);
    await together.dispose();
  });
});
