/** Conversations: the state is that of the whole conversation's tokens, and only what is new is read. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { ConfigError, DataError, DeviceError, TokenizerError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { type ChatMessage, ChatTemplate, Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { ALTERNATING, CHATML, THINKING } from '../text/testing/chat-templates.js';
import { TINY_TEXT } from '../text/testing/tiny.js';
import { ChatSession, type ChatTurn } from './chat.js';
import type { LanguageModel } from './language-model.js';
import type { sample } from './sampling.js';
import type { GeneratedPiece, GenerateOptions } from './session.js';
import { tinyModel } from './testing/tiny.js';

/** What the model is made to say next; when that is used up, it speaks for itself. */
const script: number[] = [];

vi.mock('./sampling.js', async (original) => {
  const real = await original<{ sample: typeof sample }>();
  return {
    ...real,
    sample: (...args: Parameters<typeof sample>) => script.shift() ?? real.sample(...args),
  };
});

const SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<think>', '</think>'];

/** Each ASCII character is a token and nothing else is: there is one way to spell a text. */
function spelling(): Tokenizer {
  const { tokenizer, config } = tokenizerFiles({ vocab: new Map(), merges: [], specialTokens: SPECIAL });
  const json = tokenizer as {
    added_tokens: { id: number }[];
    model: { vocab: Record<string, number> };
  };
  const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
  // The byte-level alphabet writes a line's end and a space so.
  const symbols = [...SPECIAL, 'Ċ', 'Ġ', ...printable];
  json.model.vocab = Object.fromEntries(symbols.map((symbol, id) => [symbol, id]));
  for (const [id, token] of json.added_tokens.entries()) token.id = id;
  return new Tokenizer({ tokenizer, config });
}

/** Tokens of many characters, which a text can be spelled with in many ways. */
function merging(): Tokenizer {
  return new Tokenizer(
    tokenizerFiles(
      trainBpe([`${TINY_TEXT}\n\n`.repeat(3)], { vocabSize: 300, specialTokens: SPECIAL, minFrequency: 1 }),
    ),
  );
}

const END = SPECIAL.indexOf('<|im_end|>');
const spelled = spelling();
const merged = merging();
let speller: LanguageModel;
let merger: LanguageModel;
beforeAll(async () => {
  const model = async (tokenizer: Tokenizer): Promise<LanguageModel> =>
    (await tinyModel({ vocabSize: tokenizer.vocabSize }, { tokenizer })).language;
  speller = await model(spelled);
  merger = await model(merged);
});

const templates = Object.fromEntries(
  Object.entries({ chatml: CHATML, thinking: THINKING, alternating: ALTERNATING }).map(([name, source]) => [
    name,
    new ChatTemplate({
      sources: { default: source },
      origin: `${name}.jinja`,
      variables: { bos_token: '<|endoftext|>', eos_token: '<|im_end|>' },
    }),
  ]),
) as Record<'chatml' | 'thinking' | 'alternating', ChatTemplate>;
afterAll(() => {
  for (const template of Object.values(templates)) template.close();
});
afterEach(() => {
  vi.restoreAllMocks();
  script.length = 0;
});

const chatOf = (
  model: LanguageModel,
  template: keyof typeof templates = 'chatml',
  system?: string,
): ChatSession =>
  new ChatSession(model, templates[template], {
    stopTokens: [END],
    ...(system === undefined ? {} : { system }),
  });

async function heard(pieces: AsyncGenerator<GeneratedPiece, void>): Promise<string> {
  let text = '';
  for await (const piece of pieces) text += piece.text;
  return text;
}

/** One turn; the model answers with this text, or for itself. */
async function turn(
  chat: ChatSession,
  text: string,
  answer?: string,
  options: GenerateOptions = {},
): Promise<ChatTurn> {
  script.splice(0, script.length, ...(answer === undefined ? [] : [...spelled.encode(answer), END]));
  const said = await heard(chat.say(text, options));
  script.length = 0;
  expect(said).toBe(chat.turn!.text);
  return chat.turn!;
}

/** The tokens of a prompt, all of it at once. */
async function promptIds(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  template: keyof typeof templates = 'chatml',
): Promise<number[]> {
  return tokenizer.encode(await templates[template].render(messages, { addGenerationPrompt: true }));
}

/** What a fresh session's reading of these tokens says about the next one. */
async function freshLogits(model: LanguageModel, ids: readonly number[]): Promise<Float32Array> {
  const all = await model.logits([ids]);
  return all.data.slice(-all.dims[2]);
}

/** The last logits that a model gave since this was called. */
function watchLogits(model: LanguageModel): () => Promise<Float32Array> {
  const step = vi.spyOn(model, 'step');
  return async () => (await step.mock.results.at(-1)!.value) as Float32Array;
}

describe('a conversation', () => {
  test('reads in each turn only what is new, and is then what it would be read at once', async () => {
    const chat = chatOf(speller, 'chatml', 'You are brief.');
    const last = watchLogits(speller);
    const lines = [
      ['Hi!', 'Hello.'],
      ['What is 2 + 2?', '4'],
      ['And 2 * 3?', ' 6,\n\nas ever '],
    ] as const;
    for (const [question, answer] of lines) {
      const before = chat.tokens.length;
      const result = await turn(chat, question, answer);
      const prompt = await promptIds(spelled, chat.messages.slice(0, -1));
      expect(chat.tokens).toEqual([...prompt, ...spelled.encode(answer)]);
      expect(result).toEqual({
        text: answer,
        reusedTokens: before,
        readTokens: prompt.length - before,
        writtenTokens: answer.length,
        stoppedBy: 'token',
      });
    }
    const logits = await last();
    expect(relativeError(logits, await freshLogits(speller, chat.tokens))).toBeLessThan(1e-4);
    expect(chat.messages.map(({ role }) => role)).toEqual([
      'system',
      ...Array.from({ length: 3 }, () => ['user', 'assistant']).flat(),
    ]);
    chat.dispose();
  });

  test('bit for bit, when a fresh session reads in the same pieces', async () => {
    const chat = chatOf(speller);
    const step = vi.spyOn(speller, 'step');
    for (const answer of ['one', 'two', 'three']) await turn(chat, 'count', answer);
    const pieces = step.mock.calls.map(([[ids]]) => [...ids!]);
    const logits = (await step.mock.results.at(-1)!.value) as Float32Array;
    expect(pieces.flat()).toEqual(chat.tokens);
    const fresh = speller.session();
    for (const piece of pieces) await fresh.read(piece);
    expect(await step.mock.results.at(-1)!.value).toEqual(logits);
  });

  test('whatever the model writes, reads at most its last answer again', async () => {
    let again = 0;
    for (let seed = 0; seed < 4; seed++) {
      const chat = chatOf(merger);
      const last = watchLogits(merger);
      let answerBegan = 0;
      for (const question of ['the cat?', 'a dog!', 'so it was']) {
        const held = chat.tokens.length;
        const { reusedTokens, readTokens, writtenTokens } = await turn(chat, question, undefined, {
          seed,
          temperature: 3,
          topP: 1,
          maxTokens: 12,
        });
        const prompt = await promptIds(merged, chat.messages.slice(0, -1));
        expect(chat.tokens.slice(0, prompt.length)).toEqual(prompt);
        expect(chat.tokens.length).toBe(prompt.length + writtenTokens);
        expect(reusedTokens + readTokens).toBe(prompt.length);
        expect(reusedTokens).toBeGreaterThanOrEqual(answerBegan);
        if (reusedTokens < held) {
          again++;
          expect(reusedTokens).toBe(answerBegan);
        }
        answerBegan = merged.encode(await templates.chatml.render(chat.messages.slice(0, -1))).length;
      }
      expect(relativeError(await last(), await freshLogits(merger, chat.tokens))).toBeLessThan(1e-4);
      chat.dispose();
    }
    expect(again).toBeGreaterThan(3);
  });

  test('whose template drops earlier thoughts goes on from where they began', async () => {
    const chat = chatOf(speller, 'thinking');
    const last = watchLogits(speller);
    let answerBegan = 0;
    for (const [question, answer] of [
      ['Hi!', 'greet\n</think>\n\nHello.'],
      ['What is 2 + 2?', 'add\n</think>\n\n4'],
      ['Sure?', 'yes\n</think>\n\nYes.'],
    ] as const) {
      const { reusedTokens, text } = await turn(chat, question, answer);
      expect(text).toBe(answer);
      expect(reusedTokens).toBe(answerBegan);
      const prompt = await promptIds(spelled, chat.messages.slice(0, -1), 'thinking');
      expect(chat.tokens).toEqual([...prompt, ...spelled.encode(answer)]);
      // Before '<|im_start|>assistant\n<think>\n', of which the thought's end is not there next time.
      answerBegan = prompt.length - 'Xassistant_X_'.length;
    }
    expect(relativeError(await last(), await freshLogits(speller, chat.tokens))).toBeLessThan(1e-4);
  });

  test("a special token's name becomes that token", async () => {
    const chat = chatOf(speller);
    await turn(chat, 'Hi!', 'Hello.');
    await turn(chat, 'So?', 'So.');
    const count = (id: number): number => chat.tokens.filter((token) => token === id).length;
    expect(count(SPECIAL.indexOf('<|im_start|>'))).toBe(4);
    expect(count(END)).toBe(3);
    expect(count(0)).toBe(0);
  });

  test('begins anew with the system message, and with what is still of use', async () => {
    const chat = chatOf(speller, 'chatml', 'Be brief.');
    const greedy = { temperature: 0, maxTokens: 8 };
    const first = await turn(chat, 'Hi!', undefined, greedy);
    chat.reset();
    expect(chat.messages).toEqual([{ role: 'system', content: 'Be brief.' }]);
    expect(chat.turn).toBeUndefined();
    const second = await turn(chat, 'Hi!', undefined, greedy);
    expect(second.text).toBe(first.text);
    expect(second.reusedTokens).toBe(first.readTokens - 'Xassistant_'.length);
    // The copy was used up, and is there again.
    chat.reset();
    expect((await turn(chat, 'Hi!', undefined, greedy)).reusedTokens).toBe(second.reusedTokens);
    chat.reset();
    expect((await turn(chat, 'Ho!', undefined, greedy)).reusedTokens).toBe(0);
  });

  // In one the conversation always goes on, in the other the copy is always taken up.
  test.each(['chatml', 'thinking'] as const)(
    'by %s keeps no state but its own and one copy',
    async (name) => {
      const alive = new Set<object>();
      const watch = <M extends { copy(): Promise<M>; dispose(): void }>(memory: M): M => {
        alive.add(memory);
        const { copy, dispose } = memory;
        memory.copy = async () => watch(await copy.call(memory));
        memory.dispose = () => {
          alive.delete(memory);
          dispose.call(memory);
        };
        return memory;
      };
      const made = speller.newMemory.bind(speller);
      vi.spyOn(speller, 'newMemory').mockImplementation((...args) => watch(made(...args)));
      const chat = chatOf(speller, name);
      for (const answer of ['a', 'b</think>c', 'd']) {
        await turn(chat, 'and?', answer);
        expect(alive.size).toBe(2);
      }
      chat.reset();
      await turn(chat, 'or?', 'e');
      expect(alive.size).toBe(2);
      expect(chat.bytes).toBeGreaterThan(0);
      chat.dispose();
      expect(alive.size).toBe(0);
    },
  );
});

describe('an answer', () => {
  test('ends at its tokens, at a string, or at its length, and says which', async () => {
    const chat = chatOf(speller);
    expect((await turn(chat, 'Hi!', 'Hello.')).stoppedBy).toBe('token');
    expect(await turn(chat, 'Hi!', 'Hello. Well', { stop: ['. '] })).toMatchObject({
      text: 'Hello',
      stoppedBy: 'string',
    });
    expect(await turn(chat, 'Hi!', 'Hello.', { maxTokens: 4 })).toMatchObject({
      text: 'Hell',
      writtenTokens: 4,
      stoppedBy: 'length',
    });
    const question = spelled.encode('?')[0]!;
    expect(await turn(chat, 'Hi!', 'No? Yes', { stopTokens: [question] })).toMatchObject({
      text: 'No',
      stoppedBy: 'token',
    });
    // The tokenizer's own end of a text needs no mention.
    script.push(...spelled.encode('Ah<|endoftext|>'));
    expect(await heard(chat.say('Hi!'))).toBe('Ah');
    expect(chat.turn!.stoppedBy).toBe('token');
    const texts = chat.messages.filter(({ role }) => role === 'assistant').map(({ content }) => content);
    expect(texts).toEqual(['Hello.', 'Hello', 'Hell', 'No', 'Ah']);
    const prompt = await promptIds(spelled, chat.messages.slice(0, -1));
    expect(chat.tokens).toEqual([...prompt, ...spelled.encode('Ah')]);
  });

  test("ends at the model's own end tokens too", async () => {
    const change = { vocabSize: spelled.vocabSize, eosTokenId: END };
    const { language } = await tinyModel(change, { tokenizer: spelled });
    const chat = new ChatSession(language, templates.chatml);
    expect(await turn(chat, 'Hi!', 'Hello.')).toMatchObject({ text: 'Hello.', stoppedBy: 'token' });
  });

  test('that is interrupted stays as far as it came', async () => {
    const chat = chatOf(speller);
    await turn(chat, 'Hi!', 'Hello.');
    script.push(...spelled.encode('I could go on'), END);
    let text = '';
    for await (const piece of chat.say('Talk.')) {
      text += piece.text;
      if (text === 'I could') break;
    }
    expect(chat.turn).toMatchObject({ text: 'I could', writtenTokens: 7, stoppedBy: 'interrupt' });
    expect(chat.messages.at(-1)).toEqual({ role: 'assistant', content: 'I could' });
    const held = chat.tokens.length;
    expect((await turn(chat, 'Stop.', 'Fine.')).reusedTokens).toBe(held);
    expect(chat.tokens).toEqual([
      ...(await promptIds(spelled, chat.messages.slice(0, -1))),
      ...spelled.encode('Fine.'),
    ]);
  });

  test('that a template refuses leaves the conversation as it was', async () => {
    const refused = chatOf(speller, 'alternating', 'No system here.');
    await expect(heard(refused.say('Hi!'))).rejects.toThrow(TokenizerError);
    await expect(heard(refused.say('Hi!'))).rejects.toThrow(/alternating\.jinja: .* Roles must alternate/);
    expect(refused.messages).toHaveLength(1);
    const chat = chatOf(speller, 'alternating');
    await turn(chat, 'Hi!', 'Hello.');
    await turn(chat, 'So?', 'So.');
    expect(spelled.decode(chat.tokens)).toBe(
      '<|endoftext|>[INST] Hi! [/INST]Hello.<|im_end|>[INST] So? [/INST]So.',
    );
  });

  test('that fails is as if nothing had been said', async () => {
    const chat = chatOf(speller);
    await turn(chat, 'Hi!', 'Hello.');
    const { messages, turn: before } = chat;
    await expect(turn(chat, 'So?', 'So.', { temperature: -1 })).rejects.toBeInstanceOf(ConfigError);
    await expect(turn(chat, 'So?', 'So.', { stop: [''] })).rejects.toBeInstanceOf(ConfigError);
    // At the first step, at the second, and so on: while reading, and while writing.
    for (let good = 0; good < 4; good++) {
      const step = vi.spyOn(speller, 'step');
      const real = step.getMockImplementation()!;
      for (let i = 0; i < good; i++) step.mockImplementationOnce(real);
      step.mockRejectedValueOnce(new DeviceError('no more memory'));
      await expect(turn(chat, 'So?', 'So.')).rejects.toBeInstanceOf(DeviceError);
      step.mockRestore();
      expect(chat.messages).toBe(messages);
      expect(chat.turn).toBe(before);
    }
    await turn(chat, 'So?', 'So.');
    const prompt = await promptIds(spelled, chat.messages.slice(0, -1));
    expect(chat.tokens).toEqual([...prompt, ...spelled.encode('So.')]);
  });

  test('is one at a time', async () => {
    const chat = chatOf(speller);
    script.push(...spelled.encode('Hello.'), END);
    let text = '';
    for await (const piece of chat.say('Hi!')) {
      text += piece.text;
      await expect(heard(chat.say('And?'))).rejects.toBeInstanceOf(DataError);
      expect(() => chat.reset()).toThrow(DataError);
    }
    expect(text).toBe('Hello.');
    expect((await turn(chat, 'And?', 'No.')).text).toBe('No.');
  });
});

describe('a folder', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'heddle-chat-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('without a template opens no conversation', async () => {
    expect(await ChatSession.open(speller, folder)).toBeUndefined();
  });

  test('says how to talk, and where an answer ends', async () => {
    await writeFile(join(folder, 'chat_template.jinja'), CHATML);
    await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: [END, 0] }));
    const chat = (await ChatSession.open(speller, folder, { system: 'Be brief.' }))!;
    expect(await turn(chat, 'Hi!', 'Hello.')).toMatchObject({ text: 'Hello.', stoppedBy: 'token' });
    expect(spelled.decode(chat.tokens)).toBe(
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\nHello.',
    );
    chat.template.close();
  });
});

test("a session's copy has read the same and goes its own way", async () => {
  const session = speller.session();
  await session.read('the cat');
  const copy = await session.copy();
  const written = async (from: typeof session): Promise<string> =>
    heard(from.generate({ temperature: 0, maxTokens: 10 }) as AsyncGenerator<GeneratedPiece, never>);
  const text = await written(session);
  expect(copy.tokens).toEqual(spelled.encode('the cat'));
  expect(await written(copy)).toBe(text);
  await copy.read('!');
  expect(copy.tokens.length).toBe(session.tokens.length + 1);
  session.dispose();
  await copy.read('?');
});
