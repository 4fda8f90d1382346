/** Text that follows a schema: whatever a model of random weights would rather say, it is JSON that the schema holds for. */
import { Ajv } from 'ajv';
import { beforeAll, expect, test } from 'vitest';
import { ConfigError, DataError } from '../errors.js';
import { ChatTemplate, Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { CHATML, THINKING } from '../text/testing/chat-templates.js';
import { TINY_TEXT } from '../text/testing/tiny.js';
import { ChatSession } from './chat.js';
import type { LanguageModel } from './language-model.js';
import { tinyModel } from './testing/tiny.js';

const SCHEMA = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 12 },
    people: { type: 'integer', minimum: 0 },
    kinds: { type: 'array', items: { enum: ['port', 'market'] }, maxItems: 2 },
  },
  required: ['name', 'people', 'kinds'],
  additionalProperties: false,
};
const holds = new Ajv().compile(SCHEMA);

const SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<think>', '</think>'];
let language: LanguageModel;
beforeAll(async () => {
  const trained = trainBpe([TINY_TEXT], { vocabSize: 300, specialTokens: SPECIAL, minFrequency: 1 });
  const tokenizer = new Tokenizer(tokenizerFiles(trained));
  language = (await tinyModel({ vocabSize: tokenizer.vocabSize }, { tokenizer })).language;
});

function templateOf(source: string): ChatTemplate {
  const variables = { bos_token: '<|endoftext|>', eos_token: '<|im_end|>' };
  return new ChatTemplate({ sources: { default: source }, origin: 'template.jinja', variables });
}

test.each([1, 2, 3])('a session writes it, with seed %i', async (seed) => {
  const session = language.session();
  await session.read('the river');
  let text = '';
  for await (const piece of session.generate({ schema: SCHEMA, maxTokens: 80, seed })) text += piece.text;
  expect(holds(JSON.parse(text)), text).toBe(true);
  session.dispose();
});

test('forks write it, each their own', async () => {
  const session = language.session();
  await session.read('the river');
  const texts = ['', '', ''];
  const options = { schema: SCHEMA, maxTokens: 80, seed: 1, n: 3 };
  // The options are a variable, whose type has to choose the pieces of forks too.
  for await (const { index, text } of session.generate(options)) texts[index] += text;
  for (const text of texts) expect(holds(JSON.parse(text)), text).toBe(true);
  expect(new Set(texts).size).toBe(3);
});

test.each([
  ['without a template', undefined],
  ['chatml', CHATML],
  ['thinking', THINKING],
])('a conversation answers with it: %s', async (_, source) => {
  const chat = new ChatSession(language, source === undefined ? undefined : templateOf(source));
  for await (const piece of chat.say('the river', { schema: SCHEMA, maxTokens: 120, seed: 4 })) void piece;
  const { content, text } = chat.turn!;
  expect(holds(JSON.parse(content)), text).toBe(true);
  expect(text.endsWith(content)).toBe(true);
  chat.dispose();
});

/** What a session writes within so many tokens, with wishes of the model's own for `seed`. */
async function writes(schema: object, maxTokens: number, seed: number): Promise<string> {
  const session = language.session();
  await session.read('the river');
  const before = session.tokens.length;
  let text = '';
  try {
    const options = { schema, maxTokens, seed, temperature: 2, topP: 1 };
    for await (const piece of session.generate(options)) text += piece.text;
  } catch (error) {
    expect(session.tokens.length).toBe(before);
    expect(text).toBe('');
    throw error;
  } finally {
    session.dispose();
  }
  return text;
}

test.each<[string, object]>([
  ['an object', SCHEMA],
  [
    'lists in lists',
    { $ref: '#/$defs/list', $defs: { list: { type: 'array', items: { $ref: '#/$defs/list' } } } },
  ],
  ['a long text', { type: 'string', minLength: 40 }],
  [
    'different texts',
    { type: 'array', items: { type: 'string', minLength: 1 }, minItems: 6, uniqueItems: true },
  ],
])(
  '%s is complete within as many tokens as there are, or refused before anything is written',
  async (_, schema) => {
    const valid = new Ajv().compile(schema);
    const refusal = (await writes(schema, 1, 1).catch((error: unknown) => error)) as Error;
    expect(refusal).toBeInstanceOf(ConfigError);
    const [, needed] = /^maxTokens is 1, and .* takes (\d+) tokens/.exec(refusal.message)!;
    const least = Number(needed);
    await expect(writes(schema, least - 1, 1)).rejects.toThrow(ConfigError);
    for (const maxTokens of [least, least + 1, least + 3, least + 9]) {
      for (const seed of [1, 2, 3]) {
        const text = await writes(schema, maxTokens, seed);
        expect(valid(JSON.parse(text)), `${maxTokens}, ${seed}: ${text}`).toBe(true);
      }
    }
  },
);

test('a conversation refuses too few tokens before it writes, and stays as it was', async () => {
  const chat = new ChatSession(language, templateOf(CHATML));
  await expect(chat.say('the river', { schema: SCHEMA, maxTokens: 3 }).next()).rejects.toThrow(
    /maxTokens is 3, and a short text that the schema allows takes \d+ tokens/,
  );
  expect([chat.messages, chat.turn]).toEqual([[], undefined]);
  for await (const piece of chat.say('the river', { schema: SCHEMA, maxTokens: 60, seed: 2 })) void piece;
  expect(holds(JSON.parse(chat.turn!.content))).toBe(true);
  chat.dispose();
});

test('a schema that cannot be enforced is refused with its place, and nothing is read or written', async () => {
  const schema = { type: 'object', properties: { a: { $ref: '#/nowhere' } }, required: ['a'] };
  const session = language.session();
  await session.read('the river');
  const before = session.tokens.length;
  await expect(session.generate({ schema }).next()).rejects.toThrow(ConfigError);
  await expect(session.generate({ schema }).next()).rejects.toThrow(/#\/properties\/a/);
  expect(session.tokens.length).toBe(before);
  const chat = new ChatSession(language, templateOf(CHATML));
  await expect(chat.say('the river', { schema }).next()).rejects.toThrow(ConfigError);
  expect(chat.messages).toEqual([]);
  expect(chat.tokens).toEqual([]);
});

test('a conversation without messages is refused in words of conversations', async () => {
  const chat = new ChatSession(language, undefined);
  await expect(chat.answer([]).next()).rejects.toThrow(DataError);
  await expect(chat.answer([]).next()).rejects.toThrow('the conversation has no messages: give one at least');
});
