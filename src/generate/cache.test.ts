/** A model with a cache of few bits: its answers do not depend on how a text was cut, and its states are its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { SnapshotError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { CACHE_FORMS, stateBytes } from '../nn/index.js';
import { LanguageModel } from './language-model.js';
import { loadSnapshot } from './snapshot.js';
import { device, tinyModel, tokenizer } from './testing/tiny.js';

const folder = await mkdtemp(join(tmpdir(), 'heddle-cache-'));
afterAll(() => rm(folder, { recursive: true }));

const ids = Array.from({ length: 40 }, (_, i) => (i * 37) % 300);

describe.each(CACHE_FORMS)('%s', async (cache) => {
  const { model, weights, language } = await tinyModel({
    pattern: 'M*AS',
    kvLoraRank: 6,
    qkNopeHeadDim: 4,
    qkRopeHeadDim: 2,
    vHeadDim: 3,
  });
  const compact = await LanguageModel.compile(model, weights, tokenizer, device, { cache });

  test('takes less for each token, and says nearly the same', async () => {
    const growth = ({ model: { state } }: LanguageModel): number =>
      stateBytes(state, 1) - stateBytes(state, 0);
    expect(growth(compact)).toBeLessThan(0.6 * growth(language));
    const [near, exact] = [await compact.logits([ids]), await language.logits([ids])];
    const error = relativeError(near.data, exact.data);
    expect(error).toBeGreaterThan(1e-6);
    expect(error).toBeLessThan(0.05);
  });

  test('reads a text the same in any pieces, and from a saved state', async () => {
    /** The logits after all of `ids`, read in pieces that begin at these places; the state is saved and loaded before each. */
    const logitsAfter = async (starts: readonly number[]): Promise<Float32Array> => {
      let session = compact.session();
      let logits = new Float32Array();
      for (const [i, start] of starts.entries()) {
        const path = join(folder, `${cache}-${start}.safetensors`);
        if (start > 0) {
          await (await session.snapshot()).save(path);
          session = compact.session();
          session.restore(await loadSnapshot(path, compact));
        }
        // [tokens, vocabulary]
        logits = (await session.readEach(ids.slice(start, starts[i + 1]))).slice(-compact.model.vocabSize);
      }
      return logits;
    };
    expect(relativeError(await logitsAfter([0, 7, 8, 30]), await logitsAfter([0]))).toBeLessThan(1e-5);
    const path = join(folder, `${cache}-7.safetensors`);
    await expect(loadSnapshot(path, language)).rejects.toThrow(SnapshotError);
    await expect(loadSnapshot(path, language)).rejects.toThrow(`with a cache in ${cache}`);
  });
});
