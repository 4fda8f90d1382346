/** Sessions that write together: each writes what it writes alone, whoever comes and goes beside it. */
import { describe, expect, test, vi } from 'vitest';
import type { Decoder } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import { openModel } from '../models/index.js';
import { fixtureFolder, referenceNames } from '../models/testing/reference.js';
import { Random } from '../nn/index.js';
import type { GenerateOptions } from './generation.js';
import { LanguageModel } from './language-model.js';
import type { Session } from './session.js';
import { device, tinyModel, tokenizer } from './testing/tiny.js';

async function written(session: Session, options: GenerateOptions): Promise<number[]> {
  const ids: number[] = [];
  for await (const { id } of session.generate(options)) if (id !== undefined) ids.push(id);
  return ids;
}

/** Ways to choose that need every part of the choice. */
const WAYS: readonly GenerateOptions[] = [
  { temperature: 0 },
  { temperature: 1.5, topP: 1 },
  { temperature: 1, topK: 7, topP: 1 },
  { temperature: 2, topP: 0.9, repetitionPenalty: 1.3 },
  { temperature: 0.8, stopTokens: [3, 4, 5, 6, 7, 8, 9, 10, 11, 12] },
];

/** How many rows each call of the programs has had so far. */
function spiedRows(model: LanguageModel): () => number[] {
  const { decoder } = (model as unknown as { runner: { decoder: Decoder } }).runner;
  const spies = [...new Set([decoder.reader, decoder.writer])].map((each) => vi.spyOn(each, 'run'));
  return () => spies.flatMap(({ mock }) => mock.calls.map(([, states]) => states!.length));
}

/** Many sessions that begin at different times, read different amounts, and write once or twice. */
async function crowd(model: LanguageModel, count: number): Promise<void> {
  const random = new Random(11);
  const rows = spiedRows(model);
  const members = Array.from({ length: count }, (_, i) => ({
    wait: random.below(6),
    prompts: [1, 2].map((base) =>
      Array.from({ length: base + random.below(20) }, () => random.below(model.model.vocabSize)),
    ),
    options: { ...WAYS[i % WAYS.length]!, maxTokens: 1 + random.below(30), seed: i },
  }));
  const live = async ({ prompts, options }: (typeof members)[number], session: Session) => {
    const all: number[][] = [];
    for (const prompt of prompts) {
      await session.read(prompt);
      all.push(await written(session, options));
    }
    session.dispose();
    return all;
  };
  const together = await Promise.all(
    members.map(async (member) => {
      for (let i = 0; i < member.wait; i++) await new Promise(setImmediate);
      return live(member, model.session());
    }),
  );
  expect(Math.max(...rows())).toBeGreaterThan(1);
  for (const [i, member] of members.entries()) {
    expect(together[i], `session ${i}`).toEqual(await live(member, model.session()));
  }
}

describe('each writes what it writes alone', () => {
  test.each(['M-*W-S', 'M-', '*-', 'W-', 'S-'])('%s', async (pattern) => {
    const { language } = await tinyModel({ pattern });
    await crowd(language, 10);
    await language.dispose();
  });

  test.each(referenceNames('hf'))('%s', async (name) => {
    const { model, weights } = await openModel(fixtureFolder('hf', name));
    const language = await LanguageModel.compile(model, weights, tokenizer, device);
    await crowd(language, 4);
    await language.dispose();
  });
});

test('no more rows than are allowed take part in a call', async () => {
  const { language } = await tinyModel({ pattern: 'M-' });
  const sessions = Array.from({ length: 19 }, () => language.session());
  await Promise.all(sessions.map((session, i) => session.read([i + 1, 2])));
  const rows = spiedRows(language);
  const options = { maxTokens: 4, temperature: 0 };
  const all = await Promise.all(sessions.map((session) => written(session, options)));
  expect(Math.max(...rows())).toBe(16);
  for (const [i, ids] of all.entries()) {
    const alone = language.session();
    await alone.read([i + 1, 2]);
    expect(ids).toEqual(await written(alone, options));
  }
  await language.dispose();
});

test('what fails in a run fails for all in it, and for nobody after', async () => {
  const { language } = await tinyModel();
  const sessions = [language.session(), language.session()];
  await Promise.all(sessions.map((session) => session.read([5, 6])));
  const twin = await sessions[0]!.fork();
  const options = { maxTokens: 12, temperature: 1, seed: 4 };
  const { decoder } = (language as unknown as { runner: { decoder: Decoder } }).runner;
  const run = vi.spyOn(decoder.writer, 'run').mockRejectedValueOnce(new DataError('the disk is on fire'));
  for (const result of await Promise.allSettled(sessions.map((session) => written(session, options)))) {
    expect(result).toMatchObject({ status: 'rejected', reason: { message: 'the disk is on fire' } });
  }
  run.mockRestore();
  // The first token was chosen, and given, before the call.
  expect(sessions[0]!.tokens).toHaveLength(3);
  const rest = await written(sessions[0]!, { ...options, temperature: 0 });
  await twin.read(sessions[0]!.tokens.slice(2, 3));
  expect(await written(twin, { ...options, temperature: 0 })).toEqual(rest);
  await language.dispose();
});

describe('n forks', () => {
  const options = { maxTokens: 25, temperature: 1.2, topP: 1, seed: 40 };

  test('write what forks with these seeds write one after the other, in the same runs', async () => {
    const { language } = await tinyModel();
    const session = language.session();
    await session.read([7, 8, 9]);
    const expected: number[][] = [];
    for (let i = 0; i < 4; i++)
      expected.push(await written(await session.fork(), { ...options, seed: 40 + i }));
    const rows = spiedRows(language);
    const forks = session.generate({ ...options, n: 4 });
    const ids: number[][] = [[], [], [], []];
    let result = await forks.next();
    for (; !result.done; result = await forks.next()) {
      if (result.value.id !== undefined) ids[result.value.index]!.push(result.value.id);
    }
    expect(ids).toEqual(expected);
    expect(rows().every((count) => count === 4)).toBe(true);
    expect(session.tokens).toEqual([7, 8, 9]);
    for (const [i, { session: fork, reason }] of result.value.entries()) {
      expect(reason).toBe('length');
      expect(fork.tokens).toEqual([7, 8, 9, ...ids[i]!]);
    }
    await language.dispose();
  });

  test('are let go when nobody listens any more, and the session goes on', async () => {
    const { language } = await tinyModel();
    const session = language.session();
    await session.read([7, 8, 9]);
    for await (const { index } of session.generate({ ...options, n: 3 })) if (index === 2) break;
    expect(await written(session, options)).toHaveLength(25);
    await language.dispose();
  });

  test.each([0, -1, 1.5, Number.NaN])('n is not %d', async (n) => {
    const { language } = await tinyModel({ pattern: 'M-' });
    const session = language.session();
    await session.read([1]);
    await expect(session.generate({ n }).next()).rejects.toThrow(ConfigError);
    await language.dispose();
  });
});
