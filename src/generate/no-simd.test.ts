/** On a JavaScript engine that refuses the kernels, as one without SIMD does: ONNX Runtime writes, and somebody is told. */
import { afterAll, expect, test, vi } from 'vitest';
import { openDevice } from '../engine/index.js';
import { DeviceLimitError } from '../errors.js';
import { hybridModel } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { tinyTokenizer } from '../text/testing/tiny.js';
import { LanguageModel } from './language-model.js';

class Module {
  constructor() {
    throw new WebAssembly.CompileError('Wasm SIMD unsupported');
  }
}
vi.stubGlobal('WebAssembly', Object.create(WebAssembly, { Module: { value: Module } }));
afterAll(() => void vi.unstubAllGlobals());

test('the wasm device is refused in words', async () => {
  const attempt = openDevice('wasm');
  await expect(attempt).rejects.toThrow(DeviceLimitError);
  await expect(attempt).rejects.toThrow(/WebAssembly with SIMD and threads: use Node .* or the cpu device/);
});

test('the cpu device writes what it reads, and tells once why it is slower', async () => {
  const told: string[] = [];
  const device = await openDevice('cpu', { threads: 1, notice: (text) => told.push(text) });
  const model = hybridModel(tinyConfig());
  const language = await LanguageModel.compile(model, tinyWeights(model), tinyTokenizer, device);
  const session = language.session();
  const prompt = [5, 6, 7];
  await session.read(prompt);
  const ids: number[] = [];
  for await (const { id } of session.generate({ temperature: 0, maxTokens: 8 }))
    if (id !== undefined) ids.push(id);
  const { data } = await language.logits([session.tokens]);
  const { vocabSize } = model;
  const likeliest = ids.map((_, i) => {
    const at = (prompt.length + i - 1) * vocabSize;
    const row = data.subarray(at, at + vocabSize);
    return row.indexOf(Math.max(...row));
  });
  expect(ids).toEqual(likeliest);
  expect(told).toEqual([expect.stringMatching(/^ONNX Runtime writes.*cannot compile the kernels/)]);
  session.dispose();
  await language.dispose();
  await device.dispose();
});
