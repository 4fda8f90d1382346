/** A state that is more than a device can have is refused with what it would take, and what was read before stays. */
import { expect, test } from 'vitest';
import { bytesOfWeight, type Device } from '../engine/index.js';
import { DataError } from '../errors.js';
import { stateBytes } from '../nn/index.js';
import { LanguageModel } from './language-model.js';
import { device, tinyModel, tokenizer } from './testing/tiny.js';

test('the state of a text that grows beyond the device is refused, and the session goes on', async () => {
  const { language: free, model, weights } = await tinyModel();
  const held = Array.from(weights.values(), bytesOfWeight).reduce((a, b) => a + b, 0);
  const room = stateBytes(model.state, 20);
  const limited: Device = Object.assign(Object.create(device), { addressable: held + room });
  const language = await LanguageModel.compile(model, weights, tokenizer, limited);
  const ids = Array.from({ length: 18 }, (_, i) => 1 + i);
  const [session, other] = [language.session(), free.session()];
  for (const each of [session, other]) await each.read(ids);
  const tooMuch = session.read([7, 7, 7]);
  await expect(tooMuch).rejects.toThrow(DataError);
  await expect(tooMuch).rejects.toThrow(
    /the state behind 21 tokens takes [\d.]+ kB, and the cpu device has [\d.]+ kB beside the weights: 20 tokens fit, or with a cache of 16 or 8 bits more/,
  );
  expect(session.tokens).toEqual(ids);
  const write = async (from: typeof session, found: number[]): Promise<void> => {
    for await (const { id } of from.generate({ temperature: 0, maxTokens: 10, stopTokens: [] }))
      if (id !== undefined) found.push(id);
  };
  const [found, wanted]: [number[], number[]] = [[], []];
  await write(other, wanted);
  await expect(write(session, found)).rejects.toThrow(/behind 21 tokens .* 20 tokens fit/);
  expect(found).toEqual(wanted.slice(0, found.length));
  expect(found.length).toBeGreaterThanOrEqual(2);
  expect([...session.tokens]).toEqual([...ids, ...found]);
  session.dispose();
  other.dispose();
  await language.dispose();
});
