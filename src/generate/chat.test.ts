/** Conversations: the state is that of the whole conversation's tokens, and only what is new is read. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  type MockInstance,
  test,
  vi,
} from 'vitest';
import { ConfigError, DataError, DeviceError, SnapshotError, TokenizerError } from '../errors.js';
import { relativeError } from '../graph/testing/arrays.js';
import { type ChatMessage, ChatTemplate, Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { ALTERNATING, CHATML, THINKING } from '../text/testing/chat-templates.js';
import { TINY_TEXT } from '../text/testing/tiny.js';
import { type ChatOptions, ChatSession, type ChatTurn } from './chat.js';
import type { GeneratedPiece, GenerateOptions } from './generation.js';
import type { LanguageModel } from './language-model.js';
import { PrefixCache } from './prefix-cache.js';
import { Sampler } from './sampler.js';
import { Session } from './session.js';
import { tinyModel } from './testing/tiny.js';

/** What the model is made to say next; when that is used up, it speaks for itself. */
const script: number[] = [];

beforeEach(() => {
  const { choose } = Sampler.prototype;
  vi.spyOn(Sampler.prototype, 'choose').mockImplementation(function (this: Sampler, ...args) {
    return script.shift() ?? choose.apply(this, args);
  });
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
afterEach(() => {
  vi.restoreAllMocks();
  script.length = 0;
});

const chatOf = (
  model: LanguageModel,
  template: keyof typeof templates = 'chatml',
  options: ChatOptions = {},
): ChatSession => new ChatSession(model, templates[template], { stopTokens: [END], ...options });

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

/** Whether a conversation's state is that of its tokens, read at once. */
async function expectState(chat: ChatSession, cache: PrefixCache): Promise<void> {
  const state = (await cache.find(chat.tokens))!;
  expect(state.tokens).toEqual(chat.tokens);
  const session = cache.model.session();
  session.restore(state);
  await session.read([7]);
  const { logits } = await session.snapshot();
  const all = await cache.model.logits([session.tokens as number[]]);
  expect(relativeError(logits!, all.data.slice(-all.dims[2]))).toBeLessThan(1e-4);
  session.dispose();
}

/** What the template puts in front of an answer. */
function answerPrompt(tokenizer: Tokenizer): number[] {
  return tokenizer.encode('<|im_start|>assistant\n');
}

const roomy = (model: LanguageModel): PrefixCache => new PrefixCache(model, { bytes: 1e9 });

describe('a conversation', () => {
  test('reads in each turn only what is new, and is then what it would be read at once', async () => {
    const cache = roomy(speller);
    const chat = chatOf(speller, 'chatml', { system: 'You are brief.', cache });
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
        content: answer,
        thought: '',
        calls: [],
        reusedTokens: before,
        readTokens: prompt.length - before,
        writtenTokens: answer.length,
        stoppedBy: 'token',
      });
    }
    await expectState(chat, cache);
    expect(chat.messages.map(({ role }) => role)).toEqual([
      'system',
      ...Array.from({ length: 3 }, () => ['user', 'assistant']).flat(),
    ]);
    chat.dispose();
  });

  test('is interrupted by a signal: what was written remains, and before that nothing was said', async () => {
    const chat = chatOf(speller);
    await turn(chat, 'Hi!', 'Hello.');
    const messages = [...chat.messages];
    const early = AbortSignal.abort(new Error('enough'));
    await expect(heard(chat.say('And?', { signal: early }))).rejects.toBe(early.reason);
    expect(chat.messages).toEqual(messages);
    const controller = new AbortController();
    let text = '';
    const listen = async (): Promise<void> => {
      script.push(...spelled.encode('Well then'));
      for await (const piece of chat.say('And?', { signal: controller.signal })) {
        text += piece.text;
        if (text.length === 4) controller.abort(new Error('enough'));
      }
    };
    await expect(listen()).rejects.toThrow('enough');
    expect(text).toBe('Well');
    expect(chat.messages.at(-1)).toEqual({ role: 'assistant', content: 'Well' });
    expect(chat.turn!.stoppedBy).toBe('interrupt');
    expect((await turn(chat, 'Sorry.', 'Never mind.')).text).toBe('Never mind.');
    chat.dispose();
  });

  test.each([0, 1e9])('with a cache of %d bytes reads at most its last answer again', async (bytes) => {
    let again = 0;
    for (let seed = 0; seed < 4; seed++) {
      const cache = new PrefixCache(merger, { bytes });
      const chat = chatOf(merger, 'chatml', { cache });
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
          if (bytes === 0) expect(reusedTokens).toBe(answerBegan);
        }
        answerBegan = merged.encode(await templates.chatml.render(chat.messages.slice(0, -1))).length;
      }
      if (bytes > 0) await expectState(chat, cache);
      else expect([cache.size, cache.bytes]).toEqual([0, 0]);
      chat.dispose();
      expect(chat.bytes).toBe(0);
    }
    expect(again).toBeGreaterThan(3);
  });

  test('whose template drops earlier thoughts goes on from where they began', async () => {
    const cache = roomy(speller);
    const chat = chatOf(speller, 'thinking', { cache });
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
    await expectState(chat, cache);
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
    const chat = chatOf(speller, 'chatml', { system: 'Be brief.' });
    const greedy = { temperature: 0, maxTokens: 8 };
    const first = await turn(chat, 'Hi!', undefined, greedy);
    chat.reset();
    expect(chat.messages).toEqual([{ role: 'system', content: 'Be brief.' }]);
    expect(chat.turn).toBeUndefined();
    const second = await turn(chat, 'Hi!', undefined, greedy);
    expect(second.text).toBe(first.text);
    expect(second.reusedTokens).toBe(first.readTokens);
    chat.reset();
    expect((await turn(chat, 'Hi!', undefined, greedy)).reusedTokens).toBe(second.reusedTokens);
    chat.reset();
    expect((await turn(chat, 'Ho!', undefined, greedy)).reusedTokens).toBe(0);
  });

  test('goes on from what was read before it', async () => {
    const book = speller.session();
    await book.read('It was the best of times. ');
    const after = await book.snapshot();
    const chat = chatOf(speller, 'chatml', { after });
    const began = after.length;
    expect(await turn(chat, 'Was it?', 'Yes.')).toMatchObject({ reusedTokens: began });
    await turn(chat, 'Sure?', 'No.');
    chat.reset();
    expect(await turn(chat, 'Was it?!', 'Yes.')).toMatchObject({ reusedTokens: began });
    const prompt = await promptIds(spelled, chat.messages.slice(0, -1));
    expect(chat.tokens).toEqual([...book.tokens, ...prompt, ...spelled.encode('Yes.')]);
    expect(() => chatOf(merger, 'chatml', { after })).toThrow(SnapshotError);
  });

  test('reads a prompt in one piece where one answer is asked for', async () => {
    const read = vi.spyOn(Session.prototype, 'read');
    const pieces = async (options: ChatOptions): Promise<number> => {
      const chat = chatOf(speller, 'chatml', options);
      read.mockClear();
      await turn(chat, 'Hi!', 'Hello.');
      expect(chat.tokens).toEqual([
        ...(await promptIds(spelled, chat.messages.slice(0, -1))),
        ...spelled.encode('Hello.'),
      ]);
      return read.mock.calls.length;
    };
    expect([await pieces({}), await pieces({ once: true })]).toEqual([2, 1]);
  });

  test('finds what other conversations have read, in a cache that they share', async () => {
    const cache = roomy(speller);
    const [one, other] = [chatOf(speller, 'chatml', { cache }), chatOf(speller, 'chatml', { cache })];
    await turn(one, 'Hi!', 'Hello.');
    await turn(one, 'So?', 'So.');
    const held = one.tokens.length;
    // The same conversation as far as it goes, and another one.
    expect((await turn(other, 'Hi!', 'Hello.')).readTokens).toBe(0);
    expect((await turn(other, 'And?', 'So.')).reusedTokens).toBeGreaterThan(0);
    expect(one.tokens.length).toBe(held);
    await expectState(other, cache);
    expect(() => chatOf(merger, 'chatml', { cache })).toThrow(ConfigError);
  });
});

describe('a turn', () => {
  const greedy = { temperature: 0, maxTokens: 12 };
  const wild = { temperature: 2, topP: 1, maxTokens: 12, seed: 3 };

  test('is answered again from where the answer began, bit for bit by the same seed', async () => {
    const cache = roomy(merger);
    const chat = chatOf(merger, 'chatml', { cache });
    await turn(chat, 'the cat', undefined, wild);
    const { text } = await turn(chat, 'a dog', undefined, wild);
    const { tokens } = chat;
    const state = async (): Promise<Map<string, unknown>> => (await cache.find(chat.tokens))!.state.read();
    const before = await state();
    const asked = chat.messages.slice(0, -1);
    cache.clear();
    expect(await heard(chat.regenerate({ ...wild, seed: 4 }))).not.toBe(text);
    expect(chat.messages.slice(0, -1)).toEqual(asked);
    expect(chat.turns).toBe(2);
    expect(chat.turn).toMatchObject({ readTokens: answerPrompt(merged).length });
    expect(await heard(chat.regenerate(wild))).toBe(text);
    expect(chat.turn).toMatchObject({ text, readTokens: 0 });
    expect(chat.tokens).toEqual(tokens);
    expect(await state()).toEqual(before);
  });

  test.each([1e9, 0])(
    'said otherwise is answered as if it had been said so (cache of %d bytes)',
    async (bytes) => {
      const chat = chatOf(speller, 'chatml', { cache: new PrefixCache(speller, { bytes }) });
      const lines = ['Hi!', 'And 2 + 2?', 'And 3 + 3?', 'Bye!'];
      for (const line of lines) await turn(chat, line, 'Well.');
      script.length = 0;
      const text = await heard(chat.edit(2, 'And 4 + 4?', greedy));
      expect(chat.turns).toBe(3);
      expect(chat.turn!.reusedTokens > 0).toBe(bytes > 0);
      const fresh = chatOf(speller);
      for (const line of lines.slice(0, 2)) await turn(fresh, line, 'Well.');
      expect((await turn(fresh, 'And 4 + 4?', undefined, greedy)).text).toBe(text);
      expect(chat.messages).toEqual(fresh.messages);
      expect(chat.tokens).toEqual(fresh.tokens);
      expect((await turn(chat, 'So?', 'So.')).reusedTokens).toBe(fresh.tokens.length);
      await heard(chat.edit(0, 'Ho!', greedy));
      expect(chat.turns).toBe(1);
      expect(chat.messages[0]).toEqual({ role: 'user', content: 'Ho!' });
    },
  );

  test('reads again only what was said since the turn before it', async () => {
    const chat = chatOf(speller, 'chatml', { system: 'Be brief.' });
    for (const line of ['Hi!', 'What?', 'Why?']) await turn(chat, line, 'Well.');
    script.push(...spelled.encode('Well.'), END);
    await heard(chat.edit(1, 'Where?'));
    // The end of the answer before it, the question and what comes before an answer.
    expect(chat.turn).toMatchObject({ readTokens: 'X_Xuser_Where?X_Xassistant_'.length });
  });

  test('that was not is refused', async () => {
    const chat = chatOf(speller, 'chatml', { system: 'Be brief.' });
    await expect(heard(chat.regenerate())).rejects.toThrow('there is no answer yet');
    await turn(chat, 'Hi!', 'Hello.');
    const { messages } = chat;
    for (const wrong of [-1, 1, 0.5, Number.NaN]) {
      await expect(heard(chat.edit(wrong, 'Ho!'))).rejects.toThrow(DataError);
      await expect(heard(chat.edit(wrong, 'Ho!'))).rejects.toThrow(
        `there is no turn ${wrong}: the conversation has 1`,
      );
    }
    await expect(heard(chat.edit(0, 'Ho!', { temperature: -1 }))).rejects.toThrow(ConfigError);
    expect(chat.messages).toBe(messages);
  });
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
    const refused = chatOf(speller, 'alternating', { system: 'No system here.' });
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
    const fails = async (chat: ChatSession, options: GenerateOptions, error: new (m: string) => Error) => {
      const { messages, turn: before } = chat;
      await expect(turn(chat, 'So?', 'So.', options)).rejects.toBeInstanceOf(error);
      expect(chat.messages).toBe(messages);
      expect(chat.turn).toBe(before);
    };
    // While reading what was written, the question, what comes before an answer, and the answer; and while choosing.
    for (const [name, good] of [
      ['read', 0],
      ['read', 1],
      ['read', 2],
      ['read', 3],
      ['choose', 0],
      ['choose', 2],
    ] as const) {
      const chat = chatOf(speller);
      await turn(chat, 'Hi!', 'Hello.');
      const subject = name === 'read' ? speller : Sampler.prototype;
      const step = vi.spyOn(subject as typeof speller, name as 'read') as unknown as MockInstance<
        (...args: unknown[]) => unknown
      >;
      const real = step.getMockImplementation()!;
      for (let i = 0; i < good; i++) step.mockImplementationOnce(real);
      step.mockImplementationOnce(() => {
        throw new DeviceError('no more memory');
      });
      await fails(chat, {}, DeviceError);
      if (name === 'read') delete (speller as Partial<Record<typeof name, unknown>>)[name];
      await fails(chat, { temperature: -1 }, ConfigError);
      await fails(chat, { stop: [''] }, ConfigError);
      await turn(chat, 'So?', 'So.');
      const prompt = await promptIds(spelled, chat.messages.slice(0, -1));
      expect(chat.tokens).toEqual([...prompt, ...spelled.encode('So.')]);
    }
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
  });
});

describe('thoughts and calls', () => {
  const tools = [
    {
      type: 'function',
      function: { name: 'add', parameters: { type: 'object', properties: { a: { type: 'number' } } } },
    },
  ];
  const CALLING = `{%- for t in tools or [] %}{{- (t | tojson) + '\\n' }}{%- endfor %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n' }}{%- endif %}{{- m.content }}
{%- for c in m.tool_calls or [] %}{{- '<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + '}\\n</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}`;
  const calling = new ChatTemplate({ sources: { default: CALLING }, origin: 'calling.jinja' });

  test('come apart from the content, a call is answered, and the conversation has them as templates take them', async () => {
    const chat = new ChatSession(speller, calling, { stopTokens: [END], tools });
    const text =
      'I add.\n</think>\n\nWell.\n<tool_call>\n{"name": "add", "arguments": {"a": 1.0}}\n</tool_call>';
    const { content, thought, calls } = await turn(chat, 'Add!', text);
    expect({ content, thought }).toEqual({ content: 'Well.', thought: 'I add.' });
    expect(calls).toEqual([{ id: expect.any(String), name: 'add', arguments: '{"a": 1.0}' }]);
    script.push(...spelled.encode('Done.\n</think>\n\n1'), END);
    const parts = [];
    for await (const piece of chat.tell([{ id: calls[0]!.id, content: '1' }])) parts.push(...piece.parts);
    expect(parts.map(({ kind }) => kind)).toContain('thought');
    expect(chat.turn!.content).toBe('1');
    const { id, ...called } = calls[0]!;
    expect(chat.messages).toEqual([
      { role: 'user', content: 'Add!' },
      {
        role: 'assistant',
        content: 'Well.',
        reasoning_content: 'I add.',
        tool_calls: [{ id, type: 'function', function: called }],
      },
      { role: 'tool', tool_call_id: id, name: 'add', content: '1' },
      { role: 'assistant', content: '1', reasoning_content: 'Done.' },
    ]);
    expect(chat.turns).toBe(1);
    await expect(heard(chat.tell([{ id, content: '1' }]))).rejects.toThrow(DataError);
    await turn(chat, 'Again!', 'No.\n</think>\n\n2');
    expect(chat.turns).toBe(2);
    script.push(...spelled.encode('x</think>3'), END);
    expect(await heard(chat.edit(1, 'Anew!'))).toBe('x</think>3');
    expect(chat.messages.map(({ content }) => content)).toEqual(['Add!', 'Well.', '1', '1', 'Anew!', '3']);
    chat.dispose();
  });
});
