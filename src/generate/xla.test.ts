/** A model on XLA's programs, which are evaluated here: it reads and writes as on the CPU, and states go from one to the other. */
import { expect, test } from 'vitest';
import { OutOfDeviceMemory, openDevice } from '../engine/index.js';
import { XlaDevice } from '../engine/xla/device.js';
import { EvaluatorClient } from '../engine/xla/testing/evaluator-client.js';
import { relativeError } from '../graph/testing/arrays.js';
import { hybridModel } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { tinyTokenizer } from '../text/testing/tiny.js';
import type { GenerateOptions } from './generation.js';
import { LanguageModel } from './language-model.js';
import type { Session } from './session.js';

const model = hybridModel(tinyConfig());
const weights = tinyWeights(model);

async function compiled(client = new EvaluatorClient()): Promise<LanguageModel> {
  const device = new XlaDevice(client, { precision: 'float32', writingSteps: 3 });
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

test('what a run that failed took is freed with its states', async () => {
  const client = new EvaluatorClient();
  const language = await compiled(client);
  const bytes = () => [...client.buffers].reduce((sum, buffer) => sum + buffer.bytes, 0);
  language.newState().dispose();
  const before = bytes();
  const read = async () => {
    const states = [1, 2, 3].map(() => language.newState());
    const rows = states.map((state) => ({ ids: ids.slice(0, 20), position: 0, state }));
    const reading = language.readTogether(rows, 4).finally(() => {
      for (const state of states) state.dispose();
    });
    return reading;
  };
  await read();
  client.observer = () => {
    client.observer = undefined;
    client.failure = new OutOfDeviceMemory('played', 1e9, undefined);
  };
  await expect(read()).rejects.toThrow('played');
  // The next one waits until the rows that nobody uses are gone.
  await expect.poll(bytes).toBe(before);
  await read();
}, 60_000);

test('texts of unequal lengths are read side by side, and go on as those that were read alone', async () => {
  const language = await compiled();
  const lengths = [37, 1, 18];
  const states = lengths.map(() => language.newState());
  const expected = lengths.map(() => cpu.session());
  // The second run is asked for before the first is done, and other rows are the longest in it.
  const more = [1, 21, 5];
  const parts = lengths.map((length, row) => [ids.slice(0, length), ids.slice(row, row + more[row]!)]);
  const read = (part: number) =>
    language.readTogether(
      states.map((state, row) => ({
        ids: parts[row]![part]!,
        position: part === 0 ? 0 : lengths[row]!,
        state,
        expected: 40,
      })),
      4,
    );
  const logits = await Promise.all([read(0), read(1)]);
  for (const [row, session] of expected.entries()) {
    for (const [part, own] of logits.entries()) {
      await session.read(parts[row]![part]!);
      const { logits: alone } = await session.snapshot();
      expect(relativeError(own[row]!, alone!), `row ${row}, part ${part}`).toBeLessThan(1e-5);
    }
  }
  for (const [row, state] of states.entries())
    expect(state.length).toBe(lengths[row]! + parts[row]![1]!.length);
  await language.dispose();
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

/** What a session writes on, and with which options, on both devices. */
async function expectSame(
  language: LanguageModel,
  use: (session: Session) => Promise<unknown>,
): Promise<unknown> {
  const [here, there] = [language.session(), cpu.session()];
  for (const session of [here, there]) await session.read(ids.slice(0, 4));
  const [actual, expected] = [await use(here), await use(there)];
  expect(actual).toEqual(expected);
  return actual;
}

async function told(session: Session, options: GenerateOptions): Promise<{ ids: number[]; reason: string }> {
  const tokens: number[] = [];
  const pieces = session.generate(options);
  for (;;) {
    const next = await pieces.next();
    if (next.done) return { ids: tokens, reason: next.value };
    if (next.value.id !== undefined) tokens.push(next.value.id);
  }
}

test('the device chooses several tokens in one run, as the sampler does', async () => {
  const client = new EvaluatorClient();
  const language = await compiled(client);
  await expectSame(language, async (session) => {
    const texts: unknown[] = [];
    for (const options of [
      { temperature: 0.9, topP: 0.9 },
      { temperature: 1.5, topK: 7 },
      { temperature: 1, topP: 1, minP: 0.2 },
      { temperature: 0 },
    ])
      texts.push(await told(session, { ...options, maxTokens: 7, seed: 5 }));
    return texts;
  });
  const loops = client.texts.filter((text) => text.includes('tensor<3x1xf32>'));
  expect(loops).toHaveLength(1);
});

test('a text that ends among tokens written ahead ends there, and goes on as on the CPU', async () => {
  const language = await compiled();
  const { ids: first } = (await expectSame(language, (session) =>
    told(session, { temperature: 0, maxTokens: 8 }),
  )) as { ids: number[] };
  await expectSame(language, async (session) => {
    const ended = await told(session, { temperature: 0, maxTokens: 8, stopTokens: [first[3]!] });
    expect(ended.reason).toBe('token');
    expect(session.tokens.length).toBe(4 + first.indexOf(first[3]!));
    await session.read([9, 8]);
    return [ended, await told(session, { temperature: 0, maxTokens: 3 })];
  });
});

test('who takes no more stands behind the last token that was given, and goes on as on the CPU', async () => {
  const language = await compiled();
  await expectSame(language, async (session) => {
    for await (const { id } of session.generate({ temperature: 0, maxTokens: 9 })) {
      expect(id).toBeDefined();
      if (session.tokens.length === 6) break;
    }
    const fork = await session.fork();
    return [
      await told(session, { temperature: 0, maxTokens: 3 }),
      await told(fork, { temperature: 0, maxTokens: 3 }),
    ];
  });
});

test('what nobody took of one text has no part in the next one, which goes on behind the source by its own options', async () => {
  const source = { kind: 'images', height: 2, width: 2, channels: 1, patch: 2 };
  const seeing = hybridModel({ ...tinyConfig({ pattern: 'M' }), source } as ReturnType<typeof tinyConfig>);
  const own = tinyWeights(seeing);
  const devices = [
    new XlaDevice(new EvaluatorClient(), { precision: 'float32', writingSteps: 3 }),
    await openDevice('cpu', { threads: 1 }),
  ];
  const image = { height: 2, width: 2, channels: 1 as const, pixels: Uint8Array.of(0, 250, 90, 30) };
  const reason = new Error('enough');
  const texts = devices.map(async (device) => {
    const session = (await LanguageModel.compile(seeing, own, tinyTokenizer, device)).session();
    await session.readSource(image);
    const pieces: unknown[] = [];
    const options: GenerateOptions[] = [
      { temperature: 0, logprobs: 2 },
      { temperature: 1, seed: 8, topK: 40 },
      { temperature: 0, bias: new Map([[17, 100]]) },
    ];
    for (const own of options) {
      const controller = new AbortController();
      const { signal } = controller;
      const heard = async (): Promise<void> => {
        for await (const _ of session.generate({ temperature: 0, maxTokens: 9, signal }))
          controller.abort(reason);
      };
      await expect(heard()).rejects.toBe(reason);
      for await (const { id, logprobs } of session.generate({ ...own, maxTokens: 2 }))
        pieces.push([id, logprobs?.top.length]);
    }
    for await (const _ of session.generate({ temperature: 0, maxTokens: 9 })) break;
    const fork = await session.fork();
    return [pieces, session.tokens, await told(fork, { temperature: 0, maxTokens: 2 })];
  });
  const [actual, expected] = await Promise.all(texts);
  expect(actual).toEqual(expected);
  expect(expected![0]).toHaveLength(6);
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
