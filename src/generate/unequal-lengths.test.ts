/** A batch of sequences of unequal lengths, in every family: each gives what it gives alone, and what transformers gives. */
import { expect, test } from 'vitest';
import { relativeError } from '../graph/testing/arrays.js';
import { locateWeights, readModel } from '../models/index.js';
import { readReference, referenceNames } from '../models/testing/reference.js';
import { LanguageModel } from './language-model.js';
import { device, tokenizer } from './testing/tiny.js';

test.each(referenceNames('hf'))('%s', async (name) => {
  const { folder, ids, logits: reference } = await readReference('hf', name);
  const model = await readModel(folder);
  const language = await LanguageModel.compile(model, await locateWeights(folder, model), tokenizer, device);
  const whole = ids[0]!;
  const rows = [1, whole.length, 2, 20].map((length, i) => ids[i % ids.length]!.slice(0, length));
  const { data, dims } = await language.logits(rows);
  expect(dims).toEqual([rows.length, whole.length, model.vocabSize]);
  const size = whole.length * model.vocabSize;
  for (const [i, row] of rows.entries()) {
    const own = data.subarray(i * size, (i + 1) * size);
    const end = row.length * model.vocabSize;
    const alone = await language.logits([row]);
    expect(relativeError(own.subarray(0, end), alone.data), `row ${i} as alone`).toBeLessThan(1e-5);
    const start = (i % ids.length) * size;
    expect(
      relativeError(own.subarray(0, end), reference.subarray(start, start + end)),
      `row ${i}`,
    ).toBeLessThan(2e-5);
    expect(
      own.subarray(end).every((value) => value === 0),
      `behind row ${i}`,
    ).toBe(true);
  }
  await language.dispose();
});
