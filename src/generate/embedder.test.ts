/** Vectors of texts, held against what the definition says. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Device, int64, openDevice } from '../engine/index.js';
import { input, scalar } from '../graph/index.js';
import { forward, hybridModel } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { ParameterRegistry } from '../nn/index.js';
import { Tokenizer } from '../text/index.js';
import { tinyTokenizer } from '../text/testing/tiny.js';
import { LanguageModel } from './language-model.js';
import { PREFILL_CHUNK } from './runner.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice('cpu', { threads: 1 });
});
afterAll(() => device.dispose());

test.each([1, 7, PREFILL_CHUNK, 2 * PREFILL_CHUNK + 5])(
  '%i tokens: the mean of the hidden states, at unit length',
  async (length) => {
    const model = hybridModel(tinyConfig({ maxPositionEmbeddings: 1000 }));
    const weights = tinyWeights(model);
    const language = await LanguageModel.compile(model, weights, tinyTokenizer, device);
    const ids = Array.from({ length }, (_, i) => (i * 37 + 5) % 300);

    // All at once, and without a state.
    const whole = input('ids', 'int64', [1, length]);
    const { hidden } = forward(model, new ParameterRegistry(), whole, scalar(0, 'int64'));
    const executable = await device.compile({ inputs: [whole], outputs: { hidden }, weights });
    const values = (await executable.run({ ids: int64(ids, [1, length]) })).hidden!.data as Float32Array;
    const size = model.hiddenSize;
    const mean = Array.from({ length: size }, (_, i) => {
      let total = 0;
      for (let token = 0; token < length; token++) total += values[token * size + i]!;
      return total / length;
    });
    const norm = Math.hypot(...mean);

    const vector = await language.embed(ids);
    expect(vector).toHaveLength(size);
    for (const [i, value] of vector.entries()) expect(value).toBeCloseTo(mean[i]! / norm, 4);
    await executable.dispose();
    await language.dispose();
  },
);

test('a text is embedded with the tokens that begin one, as the server and a session read it', async () => {
  const model = hybridModel(tinyConfig());
  const { tokenizer, config } = tinyTokenizer.files;
  const { vocab } = (tokenizer as { model: { vocab: Record<string, number> } }).model;
  const bos_token = Object.keys(vocab).find((name) => vocab[name] === 77)!;
  const beginning = new Tokenizer({ tokenizer, config: { ...config, add_bos_token: true, bos_token } });
  const language = await LanguageModel.compile(model, tinyWeights(model), beginning, device);
  const ids = beginning.encode('the cat');
  expect(await language.embed('the cat')).toEqual(await language.embed([77, ...ids]));
  expect(await language.embed('the cat')).not.toEqual(await language.embed(ids));
  await expect(language.embed('')).rejects.toThrow(/no tokens/);
  await language.dispose();
});

test('nothing, and what is no token, are refused', async () => {
  const model = hybridModel(tinyConfig());
  const language = await LanguageModel.compile(model, tinyWeights(model), tinyTokenizer, device);
  await expect(language.embed('')).rejects.toThrow(/no tokens/);
  await expect(language.embed([300])).rejects.toThrow(/not one of/);
  await language.dispose();
});
