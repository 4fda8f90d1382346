/** Sessions on WebGPU write what they write on the CPU, with every kind of state. Skipped without an adapter. */
import { expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { LIKELIEST } from './choice.js';
import { LanguageModel, type Written } from './language-model.js';
import { tinyModel, tokenizer } from './testing/tiny.js';

const webgpu = await openDevice('webgpu').catch((error: unknown) => error as Error);

test('rows of a batch are each written as asked, up to where all have ended', async ({ skip }) => {
  if (webgpu instanceof Error) return skip(webgpu.message);
  const { model, weights, language } = await tinyModel({ pattern: 'M-*W-S' });
  const models = [language, await LanguageModel.compile(model, weights, tokenizer, webgpu)];
  const random = [0.1, 0.7, 0.4, 0.9, 0.2, 0.6, 0.3, 0.8];
  const warm = { temperature: 1, topK: 20, topP: 0.9, repetitionPenalty: 1.5, ends: [], occurred: [7] };
  const write = async (each: LanguageModel, ends: readonly number[][]) => {
    const memory = each.newMemory(2);
    const rows = [
      { last: 5, position: 0, random, prescribed: [9, 8], choosing: { ...warm, ends: ends[0]! } },
      {
        last: 6,
        position: 0,
        random: random.slice(2),
        prescribed: [],
        choosing: { ...LIKELIEST, ends: ends[1]! },
      },
    ];
    const written = await each.write(rows, memory);
    memory.dispose();
    return written;
  };
  const [cpu, gpu] = (await Promise.all(models.map((each) => write(each, [[], []])))) as [
    Written[],
    Written[],
  ];
  expect(gpu.map(({ tokens }) => tokens)).toEqual(cpu.map(({ tokens }) => tokens));
  expect(gpu[0]!.tokens).toHaveLength(random.length);
  expect(gpu[0]!.tokens.slice(0, 2)).toEqual([9, 8]);
  for (const [i, { logits }] of gpu.entries())
    expect(relativeError(logits, cpu[i]!.logits)).toBeLessThan(1e-3);
  const ends = [[gpu[0]!.tokens[3]!], [gpu[1]!.tokens[0]!]];
  const ended = await Promise.all(models.map((each) => write(each, ends)));
  expect(ended[1]!.map(({ tokens }) => tokens)).toEqual(ended[0]!.map(({ tokens }) => tokens));
  expect(ended[1]![0]!.tokens.length).toBeLessThanOrEqual(4);
  for (const each of models) await each.dispose();
});

test('writing that fails on the way leaves the memory as it was', async ({ skip }) => {
  if (webgpu instanceof Error) return skip(webgpu.message);
  const { model, weights } = await tinyModel({ pattern: 'M-*W-S' });
  const language = await LanguageModel.compile(model, weights, tokenizer, webgpu);
  const memory = language.newMemory();
  await language.read([[5, 6, 7]], 0, memory);
  const row = { last: 8, position: 3, random: [0, 0, 0], prescribed: [], choosing: LIKELIEST };
  await expect(language.write([{ ...row, prescribed: [9, model.vocabSize] }], memory)).rejects.toThrow(
    'is not one of the model',
  );
  const [after] = await language.write([row], memory);
  const fresh = language.newMemory();
  await language.read([[5, 6, 7]], 0, fresh);
  expect(after).toEqual((await language.write([row], fresh))[0]);
  for (const each of [memory, fresh]) each.dispose();
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
