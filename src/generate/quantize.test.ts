/** Quantized while it is loaded, the shipped model still knows what it knew. */
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import type { LanguageModel } from './language-model.js';
import { loadModel } from './load-model.js';

const folder = fileURLToPath(new URL('../../assets/sotu-hybrid/', import.meta.url));
const text =
  'Fellow citizens of the Senate and House of Representatives: The Constitution of the United States requires that the ' +
  'President shall from time to time give to the Congress information of the state of the Union, and recommend to their ' +
  'consideration such measures as he shall judge necessary and expedient. Our relations with foreign nations are peaceful ' +
  'and friendly, and the revenue of the Treasury for the fiscal year has exceeded the expenditures of the Government.';

/** Nats a token. */
async function lossOf(model: LanguageModel): Promise<number> {
  const ids = model.tokenizer.encode(text);
  const { data, dims } = await model.logits([ids]);
  let total = 0;
  for (let i = 0; i + 1 < ids.length; i++) {
    const row = data.subarray(i * dims[2], (i + 1) * dims[2]);
    const largest = row.reduce((a, b) => Math.max(a, b));
    total += largest + Math.log(row.reduce((sum, x) => sum + Math.exp(x - largest), 0)) - row[ids[i + 1]!]!;
  }
  await model.dispose();
  return total / (ids.length - 1);
}

test('8 bits cost next to nothing, 4 bits a few hundredths of a nat', async () => {
  const exact = await lossOf(await loadModel(folder, { threads: 1 }));
  const int8 = await lossOf(await loadModel(folder, { threads: 1, quantize: 'int8' }));
  const int4 = await lossOf(await loadModel(folder, { threads: 1, quantize: 'int4' }));
  expect(Math.abs(int8 - exact)).toBeLessThan(0.01);
  expect(Math.abs(int4 - exact)).toBeLessThan(0.1);
  expect(int4).not.toBe(exact);
});
