/** Sessions on WebGPU write what they write on the CPU, with every kind of state. Skipped without an adapter. */
import { expect, test } from 'vitest';
import { openDevice, type State } from '../engine/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { LanguageModel } from './language-model.js';
import { tinyModel, tokenizer } from './testing/tiny.js';

const webgpu = await openDevice('webgpu').catch((error: unknown) => error as Error);

test('sessions that write together are each written as asked', async ({ skip }) => {
  if (webgpu instanceof Error) return skip(webgpu.message);
  const { model, weights, language } = await tinyModel({ pattern: 'M-*W-S' });
  const gpu = await LanguageModel.compile(model, weights, tokenizer, webgpu);
  const write = async (each: LanguageModel): Promise<number[][]> =>
    Promise.all(
      [
        { prompt: [5], temperature: 1, topK: 20, topP: 0.9, repetitionPenalty: 1.5, seed: 3 },
        { prompt: [6, 7, 8], temperature: 0 },
      ].map(async ({ prompt, ...options }) => {
        const session = each.session();
        await session.read(prompt);
        const ids: number[] = [];
        for await (const { id } of session.generate({ ...options, maxTokens: 12 })) if (id) ids.push(id);
        session.dispose();
        return ids;
      }),
    );
  expect(await write(gpu)).toEqual(await write(language));
  await gpu.dispose();
  await language.dispose();
});

test('a run that fails leaves the state as it was', async ({ skip }) => {
  if (webgpu instanceof Error) return skip(webgpu.message);
  const { model, weights } = await tinyModel({ pattern: 'M-*W-S' });
  const language = await LanguageModel.compile(model, weights, tokenizer, webgpu);
  const states = [language.newState(), language.newState()];
  for (const state of states) await language.read({ ids: [5, 6, 7], position: 0, state });
  const [state, fresh] = states as [State, State];
  await expect(language.read({ ids: [model.vocabSize], position: 3, state })).rejects.toThrow(
    'is not one of the model',
  );
  const after = await language.read({ ids: [8], position: 3, state });
  expect(after).toEqual(await language.read({ ids: [8], position: 3, state: fresh }));
  for (const each of states) each.dispose();
  await language.dispose();
});

for (const pattern of ['M-*W-S', 'M-', '*-', 'W-', 'S-']) {
  test(pattern, async ({ skip }) => {
    if (webgpu instanceof Error) return skip(webgpu.message);
    const { model, weights, language } = await tinyModel({ pattern });
    const models = [language, await LanguageModel.compile(model, weights, tokenizer, webgpu)];
    const results = await Promise.all(
      models.map(async (each) => {
        const session = each.session();
        await session.read([5, 6, 7, 8, 9]);
        const ids: (number | undefined)[] = [];
        for await (const { id } of session.generate({ maxTokens: 20, temperature: 0 })) ids.push(id);
        await session.read([4]);
        return { ids, logits: (await session.snapshot()).logits! };
      }),
    );
    const [cpu, gpu] = results as [(typeof results)[0], (typeof results)[0]];
    expect(gpu.ids).toEqual(cpu.ids);
    expect(relativeError(gpu.logits, cpu.logits)).toBeLessThan(1e-3);
    for (const each of models) await each.dispose();
  });
}
