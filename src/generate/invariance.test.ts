/**
 * On the wasm device a token's logits depend, to the last bit, on the tokens before it in its own sequence: not on how the text
 * was cut, on the rows beside it, on the number of threads, or on whether the token was read or written. Shown with random
 * schedules of every family and variant, with weights of 32, 8 and 4 bits, and of our own layers, with caches of 16 and 8 bits and
 * weights in bfloat16.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isQuantized, openDevice, type Weight } from '../engine/index.js';
import { generator } from '../graph/testing/random.js';
import {
  hybridModel,
  type Model,
  openModel,
  type Quantization,
  withModelCache,
  writeModel,
} from '../models/index.js';
import { fixtureFolder, readReference, referenceNames } from '../models/testing/reference.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import type { CacheForm } from '../nn/index.js';
import { decoderPrograms } from './program.js';
import { Runner } from './runner.js';

const alone = await openDevice('wasm', { threads: 1 });
const others = await Promise.all([2, 3].map((threads) => openDevice('wasm', { threads })));

const quantizations: readonly (Quantization | undefined)[] = [
  undefined,
  { bits: 8, block: 32 },
  { bits: 4, block: 64 },
];

const fixtures = (['hf', 'variants'] as const).flatMap((kind) =>
  referenceNames(kind).map((name) => [name, kind] as const),
);

describe.each(fixtures)('%s', (name, kind) => {
  test.each(quantizations)('%o', async (quantization) => {
    const { ids } = await readReference(kind, name);
    const { model, weights } = await openModel(fixtureFolder(kind, name), undefined, quantization);
    expect([...weights.values()].some(isQuantized)).toBe(quantization !== undefined);
    await expectInvariant(model, weights, ids, name.length + (quantization?.bits ?? 32));
  });
});

/** Layers of our own patterns, with caches of few bits, and with weights of 16 bits. */
describe.each<[pattern: string, form: CacheForm | 'bfloat16' | undefined]>([
  ['M*WS-', 'int8'],
  ['AQ*E', 'float16'],
  ['mGKgDV*', 'bfloat16'],
  ['LRNIC[M*]', undefined],
])('%s, %s', (pattern, form) => {
  test('as all others', async () => {
    const plain = hybridModel(tinyConfig({ pattern, ropeTheta: 100 }));
    const numbers = tinyWeights(plain);
    const random = generator(pattern.length);
    const ids = [13, 9].map((length) => Array.from({ length }, () => Math.floor(random() * plain.vocabSize)));
    if (form !== 'bfloat16') {
      await expectInvariant(form ? withModelCache(plain, form) : plain, numbers, ids, 5);
      return;
    }
    const folder = await mkdtemp(join(tmpdir(), 'heddle-invariance-'));
    try {
      await writeModel(folder, plain, numbers, 'BF16');
      const { model, weights } = await openModel(folder);
      await expectInvariant(model, weights, ids, 5);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

/** Reads texts token by token alone, and by a random schedule on another device. */
async function expectInvariant(
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  ids: readonly (readonly number[])[],
  seed: number,
): Promise<void> {
  const { vocabSize } = model;
  const next = generator(seed);
  const upTo = (most: number): number => 1 + Math.floor(next() * most);

  const first = new Runner(await alone.compileDecoder(decoderPrograms(model, weights)), vocabSize);
  const expected: Float32Array[][] = [];
  for (const row of ids) {
    const state = first.newState();
    const logits: Float32Array[] = [];
    for (const [position, id] of row.entries()) logits.push(await first.read({ ids: [id], position, state }));
    state.dispose();
    expected.push(logits);
  }
  await first.dispose();

  const device = others[upTo(others.length) - 1]!;
  const runner = new Runner(await device.compileDecoder(decoderPrograms(model, weights)), vocabSize);
  // More rows than texts, so that some stand beside themselves.
  const rows = Array.from({ length: 2 * ids.length + 1 }, (_, i) => ({
    text: i % ids.length,
    position: 0,
    state: runner.newState(),
  }));
  for (;;) {
    const left = rows.filter(({ text, position }) => position < ids[text]!.length);
    if (left.length === 0) break;
    const chosen = left.filter(() => next() < 0.6);
    if (chosen.length === 0) continue;
    const room = Math.min(...chosen.map(({ text, position }) => ids[text]!.length - position));
    // As many single tokens as longer pieces: both programs have their part.
    const count = next() < 0.5 ? 1 : upTo(room);
    const given = chosen.map(({ text, position, state }) => ({
      ids: ids[text]!.slice(position, position + count),
      position,
      state,
    }));
    const places = Array.from({ length: count * chosen.length }, (_, i) => i);
    const logits = await runner.readBatch(given, places);
    for (const [i, row] of chosen.entries()) {
      for (let j = 0; j < count; j++) {
        const at = (i * count + j) * vocabSize;
        const wrong = differing(logits.subarray(at, at + vocabSize), expected[row.text]![row.position]!);
        expect(wrong, `token ${row.position} of text ${row.text}, ${count} at once`).toBe(0);
        row.position++;
      }
    }
  }
  for (const { state } of rows) state.dispose();
  await runner.dispose();
}

/** How many numbers are not the same bits. */
function differing(a: Float32Array, b: Float32Array): number {
  return b.reduce((count, x, i) => count + Number(!Object.is(x, a[i])), 0);
}
