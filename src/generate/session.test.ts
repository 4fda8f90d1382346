/** Sessions: reading in pieces is reading at once, and what is written is what the tokens say. */
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { openDevice } from '../engine/index.js';
import { ConfigError, DataError, SnapshotError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { Random, stateBytes } from '../nn/index.js';
import { Tokenizer } from '../text/index.js';
import { ChatSession } from './chat.js';
import { GENERATE_DEFAULTS, type GeneratedPiece, type GenerateOptions } from './generation.js';
import { LanguageModel } from './language-model.js';
import { loadModel } from './load-model.js';
import { PREFILL_CHUNK } from './runner.js';
import type { Session } from './session.js';
import type { Snapshot } from './snapshot.js';
import { device, type TinyModel, tinyModel, tokenizer } from './testing/tiny.js';

let tiny: TinyModel;
let language: LanguageModel;
beforeAll(async () => {
  tiny = await tinyModel();
  language = tiny.language;
});

const greedy: GenerateOptions = { temperature: 0, maxTokens: 20 };

async function written(session: Session, options: GenerateOptions): Promise<GeneratedPiece[]> {
  const pieces: GeneratedPiece[] = [];
  for await (const piece of session.generate(options)) pieces.push(piece);
  return pieces;
}

function idsOf(pieces: readonly GeneratedPiece[]): number[] {
  return pieces.flatMap(({ id }) => (id === undefined ? [] : [id]));
}

function textOf(pieces: readonly GeneratedPiece[]): string {
  return pieces.map(({ text }) => text).join('');
}

function randomIds(length: number, seed = 3): number[] {
  const random = new Random(seed);
  return Array.from({ length }, () => 1 + random.below(299));
}

/** What a session's reading says about the next token. */
async function logitsAfter(
  model: LanguageModel,
  pieces: readonly (readonly number[])[],
): Promise<Float32Array> {
  const step = vi.spyOn(model, 'read');
  const session = model.session();
  for (const piece of pieces) await session.read(piece);
  const last = (await step.mock.results.at(-1)!.value) as Float32Array;
  step.mockRestore();
  session.dispose();
  return last;
}

describe('reading', () => {
  // 600 tokens are three chunks of a prefill.
  const ids = randomIds(600);
  const cuts: Record<string, number[]> = {
    halves: [300, 300],
    'a token before the end of a chunk, and one': [255, 1, 344],
    'odd pieces': [1, 7, 300, 2, 290],
  };
  const cut = (sizes: readonly number[]): number[][] => {
    const rest = [...ids];
    return sizes.map((size) => rest.splice(0, size));
  };

  for (const pattern of ['M-*W-S', 'M-S-', '*-', 'M-']) {
    test(`${pattern}: in pieces is at once`, async () => {
      const { language } = await tinyModel({ pattern });
      const whole = await logitsAfter(language, [ids]);
      for (const [name, sizes] of Object.entries(cuts)) {
        expect(relativeError(await logitsAfter(language, cut(sizes)), whole), name).toBeLessThan(1e-4);
      }
      const { data, dims } = await language.logits([ids]);
      expect(relativeError(data.subarray(-dims[2]), whole), 'logits()').toBeLessThan(1e-4);
      await language.dispose();
    });
  }

  test('and so is what is written then', async () => {
    const continuation = async (pieces: readonly (readonly number[])[]): Promise<number[]> => {
      const session = language.session();
      for (const piece of pieces) await session.read(piece);
      return idsOf(await written(session, greedy));
    };
    const whole = await continuation([ids]);
    expect(whole.length).toBe(20);
    for (const sizes of Object.values(cuts)) expect(await continuation(cut(sizes))).toEqual(whole);
  });

  test('a text is its tokens', async () => {
    const [asText, asTokens] = [language.session(), language.session()];
    await asText.read('the cat sat');
    await asTokens.read(tokenizer.encode('the cat sat'));
    expect(asText.tokens).toEqual(tokenizer.encode('the cat sat'));
    expect(await written(asText, greedy)).toEqual(await written(asTokens, greedy));
  });

  test('sessions of one model know nothing of each other', async () => {
    const alone = language.session();
    await alone.read(ids.slice(0, 40));
    const expected = await written(alone, greedy);
    const [a, b] = [language.session(), language.session()];
    await a.read(ids.slice(0, 20));
    await b.read(ids.slice(100, 150));
    await a.read(ids.slice(20, 40));
    await written(b, greedy);
    expect(await written(a, greedy)).toEqual(expected);
  });

  test('takes the bytes that the states declare, however much is read', async () => {
    const { model, language } = await tinyModel({ pattern: 'M-SW-' });
    const session = language.session();
    const declared = stateBytes(model.state, 0);
    expect(session.bytes).toBe(declared);
    await session.read(ids);
    expect(session.bytes).toBe(declared);
  });

  test('nothing, or what is no token, is refused and changes nothing', async () => {
    const session = language.session();
    await session.read('the dog');
    const before = [...session.tokens];
    await expect(session.read('')).rejects.toThrow(DataError);
    await expect(session.read([])).rejects.toThrow(/no tokens/);
    for (const bad of [300, -1, 1.5, Number.NaN]) {
      // Behind a whole chunk, which must not have been read by then.
      await expect(session.read([...ids.slice(0, 400), bad])).rejects.toThrow(
        new RegExp(`token ${bad} is not one of the model's 300`),
      );
    }
    expect(session.tokens).toEqual(before);
    const other = language.session();
    await other.read('the dog');
    expect(await written(session, greedy)).toEqual(await written(other, greedy));
  });
});

describe('writing', () => {
  const begun = async (model = language): Promise<Session> => {
    const session = model.session();
    await session.read('the cat');
    return session;
  };

  test('before anything was read is refused', async () => {
    await expect(written(language.session(), greedy)).rejects.toThrow(DataError);
    await expect(written(language.session(), greedy)).rejects.toThrow(/read a prompt first/);
  });

  test('with settings out of range is refused', async () => {
    const session = await begun();
    await expect(written(session, { topP: 2 })).rejects.toThrow(ConfigError);
    await expect(written(session, { stop: [''] })).rejects.toThrow(ConfigError);
    const text = { stop: 'ab' as unknown as string[] };
    await expect(written(session, text)).rejects.toThrow('stop is "ab": expected a list');
    const bias = new Map([[1e6, 1]]);
    await expect(written(session, { bias })).rejects.toThrow(
      /the token 1000000 is not one of the model's \d+/,
    );
    const plain = { bias: { 5: 1 } } as never;
    await expect(written(session, plain)).rejects.toThrow('bias is no Map: expected a Map of tokens');
    for (const nothing of [null, undefined, 5] as unknown as string[])
      await expect(session.read(nothing)).rejects.toThrow(DataError);
    for (const nothing of [null, undefined, {}] as unknown as Snapshot[])
      expect(() => session.restore(nothing)).toThrow(SnapshotError);
  });

  test('with options that are no object is refused', async () => {
    const words = /^the options are (null|5|a list): expected an object, or nothing$/;
    for (const wrong of [null, 5, []] as never[]) {
      const session = await begun();
      expect(() => session.generate(wrong)).toThrow(words);
      await expect(session.read('a', wrong)).rejects.toThrow(words);
      expect(() => language.session(wrong)).toThrow(words);
      await expect(language.trace([1], wrong)).rejects.toThrow(words);
      await expect(openDevice('cpu', wrong)).rejects.toThrow(words);
      await expect(loadModel('none', wrong)).rejects.toThrow(words);
      expect(() => new ChatSession(language, undefined, wrong)).toThrow(words);
      await expect(new ChatSession(language, undefined).say('a', wrong).next()).rejects.toThrow(words);
    }
  });

  test('a seed decides, and another one decides otherwise', async () => {
    const ids = async (seed: number): Promise<number[]> =>
      idsOf(await written(await begun(), { seed, maxTokens: 30, temperature: 1 }));
    expect(await ids(1)).toEqual(await ids(1));
    expect(await ids(1)).not.toEqual(await ids(2));
  });

  test('in one go is writing in several', async () => {
    const [once, twice] = [await begun(), await begun()];
    const whole = idsOf(await written(once, greedy));
    const first = idsOf(await written(twice, { ...greedy, maxTokens: 8 }));
    const second = idsOf(await written(twice, { ...greedy, maxTokens: 12 }));
    expect([...first, ...second]).toEqual(whole);
    expect(twice.tokens).toEqual(once.tokens);
  });

  test('the session has read what it wrote', async () => {
    const session = await begun();
    const ids = idsOf(await written(session, greedy));
    expect(session.tokens).toEqual([...tokenizer.encode('the cat'), ...ids]);
    const other = language.session();
    await other.read(session.tokens);
    expect(idsOf(await written(other, greedy))).toEqual(idsOf(await written(session, greedy)));
  });

  test('also when the caller stops listening', async () => {
    const [patient, hasty] = [await begun(), await begun()];
    const all = idsOf(await written(patient, greedy));
    const heard: number[] = [];
    for await (const { id } of hasty.generate(greedy)) {
      heard.push(id!);
      if (heard.length === 3) break;
    }
    expect(heard).toEqual(all.slice(0, 3));
    expect(hasty.tokens).toEqual([...tokenizer.encode('the cat'), ...heard]);
    expect(idsOf(await written(hasty, { ...greedy, maxTokens: 5 }))).toEqual(all.slice(3, 8));
  });

  test('two at once are refused, and the first goes on as if alone', async () => {
    const alone = language.session();
    await alone.read([3, 4, 5]);
    const expected = idsOf(await written(alone, greedy));
    const session = language.session();
    await session.read([3, 4, 5]);
    const actual: number[] = [];
    for await (const { id } of session.generate(greedy)) {
      if (id !== undefined) actual.push(id);
      await expect(session.read([1])).rejects.toBeInstanceOf(DataError);
      await expect(written(session, greedy)).rejects.toBeInstanceOf(DataError);
    }
    expect(actual).toEqual(expected);
    await session.read([1]);
    expect(session.tokens).toEqual([3, 4, 5, ...expected, 1]);
  });

  test('options that are undefined are as if not given; those that are no numbers are refused', async () => {
    const session = language.session();
    await session.read([3]);
    const undefinedOnes = {
      maxTokens: undefined,
      stop: undefined,
      seed: undefined,
    } as unknown as GenerateOptions;
    expect((await written(session, { ...undefinedOnes, temperature: 0 })).length).toBeGreaterThan(0);
    for (const wrong of [{ maxTokens: Number.NaN }, { maxTokens: -1 }, { seed: 0.5 }]) {
      await expect(written(session, wrong)).rejects.toBeInstanceOf(ConfigError);
    }
  });

  test('maxTokens of 0 writes nothing', async () => {
    expect(await written(await begun(), { maxTokens: 0 })).toEqual([]);
  });

  test('the pieces join to the text of all tokens, whatever the bytes', async () => {
    let broken = 0;
    for (let seed = 0; seed < 10; seed++) {
      const session = await begun();
      // A high temperature writes bytes at random, most of them no whole characters.
      const pieces = await written(session, { seed, maxTokens: 60, temperature: 20, topP: 1 });
      const text = tokenizer.decode(idsOf(pieces));
      expect(textOf(pieces)).toBe(text);
      if (text.includes('\uFFFD')) broken++;
    }
    expect(broken, 'some texts were no UTF-8').toBeGreaterThan(0);
  });

  test('a stop string never appears, and what precedes it does', async () => {
    let early = 0;
    for (let seed = 0; seed < 8; seed++) {
      const options = { seed, maxTokens: 40, temperature: 3, topP: 1 };
      const text = textOf(await written(await begun(), options));
      for (const [start, length] of [
        [3, 1],
        [5, 4],
        [9, 7],
      ] as const) {
        const stop = text.slice(start, start + length);
        // Which half of a character is broken can show only with the next token.
        if (stop.includes('\uFFFD')) continue;
        const pieces = await written(await begun(), { ...options, stop: [stop, 'never to come'] });
        expect(textOf(pieces)).toBe(text.slice(0, text.indexOf(stop)));
        // No token is written after the one that brought the stop string.
        const ids = idsOf(pieces);
        expect(tokenizer.decode(ids.slice(0, -1)).includes(stop)).toBe(false);
        expect(tokenizer.decode(ids).includes(stop)).toBe(true);
        if (ids.length < 40) early++;
      }
    }
    expect(early).toBeGreaterThan(5);
  });

  test('the end of a text ends it, and is not written', async () => {
    const ids = idsOf(await written(await begun(), { seed: 4, temperature: 2, maxTokens: 30 }));
    // A tokenizer for which the first token that has not come before ends a text.
    const at = ids.findIndex((id, i) => i > 3 && !ids.slice(0, i).includes(id));
    const vocabulary = (tokenizer.files.tokenizer as { model: { vocab: Record<string, number> } }).model
      .vocab;
    const name = Object.keys(vocabulary).find((key) => vocabulary[key] === ids[at])!;
    const ending = new Tokenizer({
      tokenizer: tokenizer.files.tokenizer,
      config: { ...tokenizer.files.config, eos_token: name },
    });
    expect(ending.endOfText).toBe(ids[at]);
    const model = await LanguageModel.compile(tiny.model, tiny.weights, ending, device);
    const session = await begun(model);
    expect(idsOf(await written(session, { seed: 4, temperature: 2, maxTokens: 30 }))).toEqual(
      ids.slice(0, at),
    );
    expect(session.tokens.slice(-at)).toEqual(ids.slice(0, at));
  });

  test('a repetition penalty keeps a greedy text from going in circles', async () => {
    const distinct = async (repetitionPenalty: number): Promise<number> =>
      new Set(idsOf(await written(await begun(), { temperature: 0, maxTokens: 60, repetitionPenalty }))).size;
    expect(await distinct(100)).toBe(60);
    expect(await distinct(1)).toBeLessThan(60);
  });

  test('the defaults are in range', () => {
    expect(GENERATE_DEFAULTS.maxTokens).toBeGreaterThan(0);
    expect(GENERATE_DEFAULTS.stop).toEqual([]);
  });
});

describe('a signal', () => {
  const reason = new Error('enough');

  test('ends writing between two tokens, and the session stands behind the last one', async () => {
    const ids = randomIds(30);
    const patient = language.session();
    await patient.read(ids);
    const all = idsOf(await written(patient, greedy));
    for (const count of [1, 3, 8, 9, 11]) {
      const controller = new AbortController();
      const session = language.session();
      await session.read(ids);
      const heard: number[] = [];
      const listen = async (): Promise<void> => {
        for await (const { id } of session.generate({ ...greedy, signal: controller.signal })) {
          heard.push(id!);
          if (heard.length === count) controller.abort(reason);
        }
      };
      await expect(listen()).rejects.toBe(reason);
      expect(heard).toEqual(all.slice(0, count));
      expect(session.tokens).toEqual([...ids, ...heard]);
      expect(idsOf(await written(session, { ...greedy, maxTokens: 20 - count }))).toEqual(all.slice(count));
    }
  });

  test('comes through from a timer while the engine computes', async () => {
    const session = language.session();
    await session.read('the cat');
    const signal = AbortSignal.timeout(20);
    await expect(written(session, { temperature: 0, maxTokens: 1e6, signal })).rejects.toThrow(/timeout/);
  });

  test('ends reading between two chunks, of which those before were read', async () => {
    const ids = randomIds(700);
    const controller = new AbortController();
    const session = language.session();
    const read = vi.spyOn(language, 'read').mockImplementation(async function (this: LanguageModel, ...args) {
      controller.abort(reason);
      read.mockRestore();
      return this.read(...args);
    });
    await expect(session.read(ids, { signal: controller.signal })).rejects.toBe(reason);
    expect(session.tokens).toEqual(ids.slice(0, PREFILL_CHUNK));
    await session.read(ids.slice(PREFILL_CHUNK));
    const whole = language.session();
    await whole.read(ids);
    expect((await session.snapshot()).logits).toEqual((await whole.snapshot()).logits);
  });

  test('that is aborted before ends all at once', async () => {
    const session = language.session();
    const signal = AbortSignal.abort(reason);
    await expect(session.read('the cat', { signal })).rejects.toBe(reason);
    expect(session.tokens).toEqual([]);
    await session.read('the cat');
    const before = [...session.tokens];
    await expect(written(session, { ...greedy, signal })).rejects.toBe(reason);
    expect(session.tokens).toEqual(before);
  });

  test('ends all forks that write together, and leaves the session where it was', async () => {
    const session = language.session();
    await session.read('the cat');
    const before = [...session.tokens];
    const controller = new AbortController();
    const listen = async (): Promise<void> => {
      for await (const _ of session.generate({ ...greedy, n: 3, signal: controller.signal })) {
        controller.abort(reason);
      }
    };
    await expect(listen()).rejects.toBe(reason);
    expect(session.tokens).toEqual(before);
    expect(idsOf(await written(session, greedy)).length).toBe(20);
  });
});
