/** Sessions on WebGPU write what they write on the CPU, with every kind of state. Skipped without an adapter. */
import { expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { LanguageModel } from './language-model.js';
import { tinyModel, tokenizer } from './testing/tiny.js';

const webgpu = await openDevice('webgpu').catch((error: unknown) => error as Error);

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
