/** A model on XLA's programs, which are evaluated here: it reads and writes as on the CPU, and states go from one to the other. */
import { expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { XlaDevice } from '../engine/xla/device.js';
import { EvaluatorClient } from '../engine/xla/testing/evaluator-client.js';
import { relativeError } from '../graph/testing/arrays.js';
import { hybridModel } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { tinyTokenizer } from '../text/testing/tiny.js';
import { LanguageModel } from './language-model.js';

const model = hybridModel(tinyConfig());
const weights = tinyWeights(model);

async function compiled(client = new EvaluatorClient()): Promise<LanguageModel> {
  const device = new XlaDevice(client, { precision: 'float32' });
  return LanguageModel.compile(model, weights, tinyTokenizer, device);
}

const cpu = await LanguageModel.compile(
  model,
  weights,
  tinyTokenizer,
  await openDevice('cpu', { threads: 1 }),
);
const ids = Array.from({ length: 37 }, (_, i) => (i * 29) % 300);

async function written(language: LanguageModel, session = language.session()): Promise<number[]> {
  const tokens: number[] = [];
  for await (const { id } of session.generate({ temperature: 0, maxTokens: 6, stopTokens: [] })) {
    if (id !== undefined) tokens.push(id);
  }
  return tokens;
}

test('it reads in pieces and writes what the CPU writes', async () => {
  const language = await compiled();
  const [here, there] = [language.session(), cpu.session()];
  await here.read(ids);
  await there.read(ids);
  expect(await written(language, here)).toEqual(await written(cpu, there));
});

test('logits behind each token are those of the CPU', async () => {
  const language = await compiled();
  const rows = [ids, ids.slice(0, 20), ids.slice(5, 9)];
  const [actual, expected] = [await language.logits(rows), await cpu.logits(rows)];
  expect(actual.dims).toEqual(expected.dims);
  expect(relativeError(actual.data, expected.data)).toBeLessThan(1e-5);
});

test('sessions that write at the same time are one batch, filled up to a power of two', async () => {
  const client = new EvaluatorClient();
  const language = await compiled(client);
  const sessions = [language.session(), language.session(), language.session()];
  const expected: number[][] = [];
  for (const [i, session] of sessions.entries()) {
    await session.read(ids.slice(0, 3 + i));
    const alone = cpu.session();
    await alone.read(ids.slice(0, 3 + i));
    expected.push(await written(cpu, alone));
  }
  expect(await Promise.all(sessions.map((session) => written(language, session)))).toEqual(expected);
  expect(client.texts.some((text) => text.includes('tensor<4x1xi64>'))).toBe(true);
  expect(client.texts.some((text) => text.includes('tensor<3x1xi64>'))).toBe(false);
});

test('a state goes on on the other device', async () => {
  const language = await compiled();
  const here = language.session();
  await here.read(ids);
  const state = language.newState();
  await language.read({ ids, position: 0, state });
  const moved = cpu.newState(await state.read(), state.length);
  const there = cpu.newState();
  const before = await cpu.read({ ids, position: 0, state: there });
  const [next, expected] = [
    await cpu.read({ ids: [7], position: ids.length, state: moved }),
    await cpu.read({ ids: [7], position: ids.length, state: there }),
  ];
  expect(relativeError(next, expected)).toBeLessThan(1e-5);
  const back = language.newState(await there.read(), there.length);
  const again = await language.read({ ids: [9], position: ids.length + 1, state: back });
  const same = await cpu.read({ ids: [9], position: ids.length + 1, state: there });
  expect(relativeError(again, same)).toBeLessThan(1e-5);
  expect(before.length).toBe(300);
});

test('a piece that fails leaves the state as it was', async () => {
  const client = new EvaluatorClient();
  const language = await compiled(client);
  const state = language.newState();
  await language.read({ ids: ids.slice(0, 5), position: 0, state });
  const before = await state.read();
  const fails = language.read({ ids: ids.slice(5, 23), position: 5, state });
  // The second of its pieces.
  const { compile } = client;
  client.compile = async (text) => {
    client.failure = new Error('out of memory');
    return compile.call(client, text);
  };
  await expect(fails).rejects.toThrow('out of memory');
  client.compile = compile;
  client.failure = undefined;
  expect(await state.read()).toEqual(before);
  expect(state.length).toBe(5);
});

test('it is traced', async () => {
  const language = await compiled();
  const [actual, expected] = await Promise.all(
    [language, cpu].map((each) => each.trace(ids.slice(0, 12), { matrices: true })),
  );
  expect(JSON.stringify(actual!, rounded)).toEqual(JSON.stringify(expected!, rounded));
});

function rounded(_: string, value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Array.from(value as Float32Array, (x) => Number(x.toFixed(3)) + 0);
  return typeof value === 'number' ? Number(value.toFixed(3)) + 0 : value;
}
